"""The parts of the page that show results, as HTML. Everything that came from outside is escaped."""

import base64
from collections.abc import Sequence
from html import escape

from PIL import Image

from speech2image import audio, images
from speech2image.domains import OTHER, something_else
from speech2image.pipeline import Interpolation, Translation
from speech2image.transcription import TranscribedWord
from speech2image.web.page.plots import plot_spectrogram, plot_waveform
from speech2image.web.service import RenderResult

UNSURE = 0.5
"""Words of less confidence are marked."""


def data_url(content: bytes, kind: str) -> str:
    """Bytes as an address that a page can show without asking the server again."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png_url(image: Image.Image) -> str:
    """A picture as such an address."""
    return data_url(images.encode(image), "image/png")


def heard(result: RenderResult) -> str:
    """What the model listened to: waveform, log-mel, player, download."""
    seconds = len(result.waveform) / audio.SAMPLE_RATE
    sound = data_url(audio.encode_flac(result.waveform), "audio/flac")
    wave, mel = plot_waveform(result.waveform), plot_spectrogram(result.result.log_mel)
    return f"""<section class="s2i-heard" aria-label="What was heard">
<h2>What was heard <span class="s2i-quiet">{seconds:.1f} s</span></h2>
<img src="{png_url(wave)}" width="{wave.width}" height="{wave.height}" alt="Waveform: loudness over time">
<img src="{png_url(mel)}" width="{mel.width}" height="{mel.height}"
 alt="Log-mel spectrogram: pitch upwards, time to the right, lighter is louder">
<div class="s2i-player">
<audio controls src="{sound}" aria-label="The recording as the model heard it"></audio>
<a class="s2i-save" href="{sound}" download="heard.flac">Save sound</a></div>
</section>"""


def pictures(result: RenderResult, title: str | None = None) -> str:
    """The pictures of one route, each with a link that saves it, and what was understood, if that is told."""
    stem = f"{result.result.model}-{result.result.seed}"
    names = [f"{stem}-{k}.png" for k in range(1, len(result.result.images) + 1)]
    figures = "".join(
        _figure(image, name, f"Picture {k} of {len(names)}")
        for k, (image, name) in enumerate(zip(result.result.images, names, strict=True), 1)
    )
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f"""<section class="s2i-pictures" aria-label="{escape(title or "Pictures")}">
{heading}{_words(result)}{_about(result)}
<div class="s2i-grid" data-count="{len(names)}">{figures}</div>
{_below(result.result, png_url(result.result.grid()), f"{stem}.png", "Save all as one picture")}</section>"""


def side_by_side(parts: Sequence[str]) -> str:
    """The pictures of several routes beside each other."""
    return f'<div class="s2i-side" data-count="{len(parts)}">{"".join(parts)}</div>'


def walk(result: Interpolation) -> str:
    """An interpolation: one large picture, a slider that chooses which, and the row of all."""
    last = len(result.images) - 1
    addresses = [png_url(image) for image in result.images]
    row = "".join(
        f'<button type="button" class="s2i-step{"" if k else " s2i-chosen"}" data-step="{k}" '
        f'aria-label="{_share(alpha)}"><img src="{address}" alt="" width="96" height="96"></button>'
        for k, (address, alpha) in enumerate(zip(addresses, result.alphas, strict=True))
    )
    name = f"{result.model}-{result.seed}-between.png"
    return f"""<section class="s2i-walk" aria-label="From the first recording to the second">
<img class="s2i-large" src="{addresses[0]}" alt="{_share(result.alphas[0])}">
<label class="s2i-slide"><span>first</span>
<input type="range" min="0" max="{last}" value="0" step="1"
 aria-label="From the first recording to the second"
 aria-valuetext="{_share(result.alphas[0])}"><span>second</span></label>
<div class="s2i-row">{row}</div>
{_below(result, png_url(result.grid()), name, "Save the row")}</section>"""


def _below(result: Translation | Interpolation, address: str, name: str, save: str) -> str:
    about = f"Model {result.model}, seed {result.seed}, {result.seconds:.2f} s"
    return (
        f'<p class="s2i-below"><span class="s2i-quiet">{escape(about)}</span>'
        f'<a class="s2i-save" href="{address}" download="{escape(name)}">{escape(save)}</a></p>'
    )


def _figure(image: Image.Image, name: str, title: str) -> str:
    address = png_url(image)
    return (
        f'<figure><img src="{address}" alt="{escape(title)}" width="{image.width}" height="{image.height}">'
        f'<a class="s2i-save" href="{address}" download="{escape(name)}" '
        f'aria-label="Save {escape(title.lower())}">Save</a></figure>'
    )


def _words(heard: RenderResult) -> str:
    result = heard.result
    if result.transcript is None:
        return ""
    words = " ".join(map(_word, result.words)) or escape(result.transcript)
    if result.route == "cascade":
        return f'<p class="s2i-transcript">Understood: <q>{words}</q></p>'
    return (
        f'<p class="s2i-transcript s2i-quiet">Understood: <q>{words}</q> '
        "(shown, not used: the pictures come from the sound)</p>"
    )


def _about(heard: RenderResult) -> str:
    """A hint where the recording is about something that the model cannot draw."""
    result = heard.result
    if result.domain != OTHER:
        return ""
    told = something_else(result.domains)
    return f'<p class="s2i-notice s2i-hinted" role="note">{escape(told[:1].upper() + told[1:])}.</p>'


def _word(word: TranscribedWord) -> str:
    """A word; one that is more likely wrong than right is marked, for eyes and for screen readers."""
    if word.confidence >= UNSURE:
        return escape(word.text)
    title = f"unsure of this word: {round(100 * word.confidence)} %"
    return (
        f'<span class="s2i-unsure" title="{title}">{escape(word.text)}'
        '<span class="s2i-unseen"> (unsure)</span></span>'
    )


def _share(alpha: float) -> str:
    return f"{round(100 * alpha)} % first, {round(100 * (1 - alpha))} % second"
