"""The page in a real browser (Debian's chromium, driven by playwright) with a fake microphone."""

import base64
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from tiny_model import write_wav
from understood_route import open_understood
from web_server import server_of

from speech2image import audio, cli, tts
from speech2image.errors import DataError
from speech2image.pipeline import images, registry
from speech2image.pipeline.recipe import read_recipe
from speech2image.web.page import answers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="needs playwright",
    ),
    pytest.mark.skipif(not registry.available_models(), reason="needs a shipped model"),
]
RECORDINGS = Path(__file__).parents[2] / "examples" / "recordings"
SPOKEN = RECORDINGS / "red-cluster-kal16.opus"
OTHER = RECORDINGS / "blue-flowers-kal16.opus"
PATIENT = ("--queue", "32", "--max-seconds", "600", "--request-seconds", "600")
"""Of a server whose machine may be slow."""
WAIT = 300_000  # milliseconds; how long never decides, only whether


def write_microphone(path: Path, waveform: np.ndarray) -> Path:
    """What the fake microphone hears: a wav file at 48 kHz, which Chromium repeats."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((np.repeat(waveform, 3) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of all shipped models, with the page."""
    with server_of(None, *PATIENT) as (_, address):
        yield address


@pytest.fixture(scope="module")
def launch(tmp_path_factory) -> Iterator[Callable]:
    """Starts browsers whose microphone hears a waveform, or is refused."""
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("microphones")
    with sync_playwright() as playwright:
        browsers = []

        def start(name: str, waveform: np.ndarray | None) -> object:
            flags = ["--no-sandbox", "--use-fake-device-for-media-stream"]
            if waveform is not None:
                path = write_microphone(folder / f"{name}.wav", waveform)
                flags += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={path}"]
            browsers.append(playwright.chromium.launch(executable_path=CHROMIUM, args=flags))
            return browsers[-1]

        yield start
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="module")
def browser(launch: Callable) -> object:
    """A browser that hears `SPOKEN`."""
    return launch("speech", audio.load(SPOKEN))


KEEP_BODIES = """
window.bodies = [];
const asked = window.fetch;
window.fetch = async (url, options) => {
  if (options && options.body instanceof Blob) {
    const bytes = new Uint8Array(await options.body.arrayBuffer());
    window.bodies.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')));
  }
  return asked(url, options);
};"""
"""Keeps what a page posts: the browser shows no bodies of requests that are files."""


WATCH = """() => {
  for (const [name, id] of [['seen', 'state'], ['read', 'announcer']]) {
    const texts = window[name] = [], element = document.getElementById(id);
    const watch = new MutationObserver(() => texts.push(element.textContent));
    watch.observe(element, { childList: true, characterData: true, subtree: true });
  }
}"""


class Visit:
    """A page that is open, and what went over the network because of it."""

    def __init__(self, page, address: str) -> None:
        self.page, self.asked, self.complaints = page, [], []
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: self.asked.append(request))
        page.on("pageerror", lambda error: self.complaints.append(error))
        page.add_init_script(KEEP_BODIES)
        page.goto(address)
        page.wait_for_selector(".s2i-talk")

    def posts(self) -> list[str]:
        """The paths that the page posted something to."""
        return [urlsplit(request.url).path for request in self.asked if request.method == "POST"]

    def recordings(self) -> list[bytes]:
        """The recordings that were sent to be translated."""
        return [base64.b64decode(body) for body in self.page.evaluate("window.bodies")]

    def wait_for_state(self, text: str | re.Pattern) -> None:
        """Wait until what goes on is this."""
        self.page.locator("#state").filter(has_text=text).wait_for()

    def pictures(self, selector: str = "#pictures .s2i-grid img") -> list[np.ndarray]:
        """The pictures shown, once all are drawn."""
        self.wait_for_state(re.compile(r"\d+ pictures drawn"))
        return [pixels(image.get_attribute("src")) for image in self.page.query_selector_all(selector)]

    def save(self, text: str, within: str = "body") -> Image.Image:
        """The picture that a button saves."""
        return Image.open(io.BytesIO(self.save_file(text, within)))

    def save_file(self, text: str, within: str = "body") -> bytes:
        """The file that a button saves."""
        with self.page.expect_download() as saved:
            self.page.locator(within).get_by_text(text, exact=True).click()
        return Path(saved.value.path()).read_bytes()

    def type(self, sentence: str) -> None:
        """Type a sentence and have it spoken."""
        self.page.fill("#sentence input", sentence)
        self.page.click("#speak")

    def watch_states(self) -> None:
        """Keep what is shown and what is read out from now on, for `states`."""
        self.page.evaluate(WATCH)

    def states(self) -> tuple[list[str], list[str]]:
        """What was shown and what was read out."""
        return self.page.evaluate("[window.seen, window.read]")

    def upload(self, path: Path, recorder: str = "say") -> None:
        self.page.set_input_files(f"#recorder-{recorder} input[type=file]", path)

    def status(self, recorder: str = "say"):
        return self.page.locator(f"#recorder-{recorder} .s2i-status")

    def wait_for_text(self, text: str, recorder: str = "say") -> None:
        self.status(recorder).filter(has_text=text).wait_for()


def pixels(address: str) -> np.ndarray:
    content = base64.b64decode(address.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def visit(browser, address: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    visit = Visit(context.new_page(), address)
    yield visit
    others = [r.url for r in visit.asked if not r.url.startswith((address, "data:", "blob:"))]
    assert others == []  # nobody else was asked for anything: fonts, scripts, counters
    assert visit.complaints == []
    context.close()


def command_line(folder: Path, *words: str, diverse: bool = True) -> list[np.ndarray]:
    """The pictures that `speech2image WORDS --diverse --separate` writes."""
    out, choice = folder / "cli", ["--diverse"] if diverse else []
    assert cli.main([*words, *choice, "-n", "8", "-o", str(out / "p.png"), "--separate"]) == 0
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(out.iterdir())]


def as_shown(picture: np.ndarray) -> np.ndarray:
    """What a page shows of a picture that is drawn: the same through WebP."""
    return pixels(answers.data_url(answers.view(Image.fromarray(picture)), "image/webp"))


def assert_same(shown: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Pictures shown are those drawn."""
    assert len(shown) == len(expected)
    for one, other in zip(shown, expected, strict=True):
        assert np.array_equal(one, as_shown(other))


# ---- speak, drop, type ---------------------------------------------------------------------------


def test_the_other_way_shows_its_words_and_that_it_is_chosen(visit: Visit) -> None:
    visit.page.get_by_text("Number, seed, model, route").click()
    ways = visit.page.get_by_label("cascade"), visit.page.get_by_label("direct")
    ways[0].click()
    visit.page.click(".s2i-example >> nth=1")
    visit.page.wait_for_selector(".s2i-transcript")
    assert "bird" in visit.page.inner_text(".s2i-transcript")
    chosen, other = (
        way.evaluate("e => getComputedStyle(e).backgroundColor + getComputedStyle(e).backgroundImage")
        for way in ways
    )
    assert ways[0].is_checked() and chosen != other


def test_hold_speak_release(visit: Visit, tmp_path: Path) -> None:
    """Eight pictures appear, and are those that the command line makes of the same recording and seed."""
    page = visit.page
    page.hover(".s2i-talk")
    page.mouse.down()
    visit.wait_for_text("Listening, 3 s")
    assert page.inner_text("#say-hint") == "Release to draw, slide away to cancel"
    assert page.inner_text("#announcer") == "Listening"  # the seconds are not read into the microphone
    assert page.get_attribute(".s2i-talk", "aria-pressed") == "true"
    page.mouse.up()
    shown = visit.pictures()
    assert page.get_attribute(".s2i-talk", "aria-pressed") == "false"
    (recording,) = visit.recordings()
    (tmp_path / "recorded.webm").write_bytes(recording)
    assert_same(shown, command_line(tmp_path, "translate", str(tmp_path / "recorded.webm")))
    assert len(audio.load(recording)) > 2.5 * audio.SAMPLE_RATE
    assert "What was heard" in page.inner_text("#heard")


def test_what_was_recorded_is_what_was_said(visit: Visit) -> None:
    """Of all example recordings, the one that the microphone played is nearest to what was heard."""
    import speech2image

    page = visit.page
    page.focus(".s2i-talk")
    page.keyboard.press("Enter")  # by keyboard: once to start, once to stop
    visit.wait_for_text("Listening, 5 s")
    page.keyboard.press("Enter")
    visit.pictures()
    route = speech2image.load()
    heard = route.embed(visit.recordings()[0])

    def likeness(path: Path) -> float:
        other = route.embed(path)
        return float(heard @ other / np.linalg.norm(heard) / np.linalg.norm(other))

    assert max(RECORDINGS.glob("*.opus"), key=likeness) == SPOKEN


def test_upload_then_again(visit: Visit, tmp_path: Path) -> None:
    visit.upload(SPOKEN)
    first = visit.pictures()
    assert_same(first, command_line(tmp_path / "0", "translate", str(SPOKEN)))
    visit.page.click("#again")
    visit.page.get_by_text("seed 1,").wait_for()
    assert_same(visit.pictures(), command_line(tmp_path / "1", "translate", str(SPOKEN), "--seed", "1"))


def test_a_file_chosen_before_the_scripts_ran_is_drawn(visit: Visit) -> None:
    page, waiting = visit.page, []
    page.route("**/assets/page.js", lambda route: waiting.append(route))
    with page.expect_request("**/assets/page.js"):
        page.reload(wait_until="commit")
    page.wait_for_selector(".s2i-talk")
    visit.upload(SPOKEN)
    waiting.pop().continue_()
    assert len(visit.pictures()) == 8


def test_drop_a_file(visit: Visit, tmp_path: Path) -> None:
    content = base64.b64encode(OTHER.read_bytes()).decode()
    transfer = visit.page.evaluate_handle(
        """(content) => { const transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], 'blue.opus')); return transfer; }""",
        content,
    )
    visit.page.dispatch_event("#recorder-say .s2i-recorder", "drop", {"dataTransfer": transfer})
    assert_same(visit.pictures(), command_line(tmp_path, "translate", str(OTHER)))
    assert visit.status().inner_text() == "blue.opus"


def test_example(visit: Visit, tmp_path: Path) -> None:
    visit.page.click(f"[data-example='examples/{SPOKEN.name}']")
    assert_same(visit.pictures(), command_line(tmp_path, "translate", str(SPOKEN)))


@pytest.mark.skipif(not tts.available_voices(), reason="needs a speaking engine")
def test_typed_sentence(visit: Visit, tmp_path: Path) -> None:
    """It is spoken, can be heard, and becomes what `say` makes of it."""
    text = "this flower has bright yellow petals"
    visit.page.fill("#sentence input, #sentence textarea", text)
    visit.page.click("#speak")
    assert_same(visit.pictures(), command_line(tmp_path, "say", text))
    assert visit.page.get_attribute("#heard audio", "src").startswith("data:audio/flac")


def test_downloads(visit: Visit, tmp_path: Path) -> None:
    visit.upload(SPOKEN)
    shown, page = visit.pictures(), visit.page
    page.hover("#pictures figure >> nth=2")
    with page.expect_download() as third:
        page.click("#pictures figure >> nth=2 >> text=Save")
    assert third.value.suggested_filename.endswith("-3.png")
    drawn = command_line(tmp_path, "translate", str(SPOKEN))
    kept = np.asarray(Image.open(third.value.path()).convert("RGB"))
    assert np.array_equal(kept, drawn[2]) and np.array_equal(shown[2], as_shown(kept))
    sheet = visit.save("Save all as one picture")
    assert np.array_equal(np.asarray(sheet), np.asarray(images.grid([Image.fromarray(one) for one in drawn])))
    with page.expect_download() as sound:
        page.click("text=Save sound")
    assert np.allclose(audio.load(sound.value.path()), audio.load(SPOKEN), atol=1e-4)


def test_a_saved_picture_says_what_drew_it_unless_that_is_switched_off(visit: Visit, tmp_path: Path) -> None:
    visit.upload(SPOKEN)
    visit.pictures()
    (tmp_path / "kept.png").write_bytes(visit.save_file("Save all as one picture"))
    recipe = read_recipe(tmp_path / "kept.png")
    model = registry.find(recipe.model)
    assert (recipe.model, recipe.checksum) == (registry.DEFAULT_MODEL, model.checksum)
    assert (recipe.seed, recipe.pictures, recipe.route) == (0, 8, "direct")
    assert "flower" in recipe.words[0]
    visit.page.get_by_role("button", name="Number").click()
    visit.page.uncheck("#say-options [name=recipe]")
    (tmp_path / "bare.png").write_bytes(visit.save_file("Save all as one picture"))
    with pytest.raises(DataError, match="has no recipe"):
        read_recipe(tmp_path / "bare.png")
    assert visit.posts().count("/page/pictures") == 1  # nothing was drawn anew for it


def test_from_one_to_another(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="From one to another").click()
    page.click("#interpolate")
    page.get_by_role("alert").filter(has_text="Both descriptions are needed").wait_for()
    visit.upload(SPOKEN, "first")
    visit.upload(OTHER, "second")
    steps = visit.pictures("#interpolation .s2i-row img")
    out = tmp_path / "row.png"
    assert cli.main(["interpolate", str(SPOKEN), str(OTHER), "-o", str(out)]) == 0
    with Image.open(out) as row:
        size, sheet = row.height, np.asarray(row)
    assert_same(steps, [sheet[:, k * (size + 2) : k * (size + 2) + size] for k in range(9)])
    page.get_by_role("button", name="Pause").click()  # it plays by itself
    assert np.array_equal(np.asarray(visit.save("Save the row", "#interpolation")), sheet)
    for form in ("GIF", "WebP"):
        film = visit.save(f"Save as {form}", "#interpolation")
        assert (film.format, film.n_frames, film.size) == (form.upper(), 16, (size, size))
    slider = page.locator("#interpolation input[type=range]")
    for key, step in (("Home", 0), ("ArrowRight", 1), ("End", 8), ("Home", 0)):
        slider.press(key)
        assert np.array_equal(pixels(page.get_attribute("#interpolation .s2i-large", "src")), steps[step])
    assert slider.get_attribute("aria-valuetext") == "100 % first, 0 % second"
    page.click("#interpolation .s2i-step >> nth=4")
    assert np.array_equal(pixels(page.get_attribute("#interpolation .s2i-large", "src")), steps[4])


# ---- what the page says --------------------------------------------------------------------------


def test_first_sight(visit: Visit) -> None:
    """What it draws, in which language, how long; a picture of each; examples with pictures and texts."""
    page = visit.page
    page.wait_for_load_state("networkidle")
    text = page.inner_text("header")
    assert all(part in text for part in ("flowers", "birds", "English", "600 seconds"))
    seen = "img => img.naturalWidth > 0"
    known = page.locator(".s2i-known img")
    assert known.count() >= 2 and all(known.nth(k).evaluate(seen) for k in range(known.count()))
    examples = page.locator(".s2i-example")
    for k in range(examples.count()):
        example = examples.nth(k)
        example.scroll_into_view_if_needed()
        assert example.evaluate("e => e.scrollWidth <= e.clientWidth")  # nothing of the text is cut off
    page.wait_for_load_state("networkidle")
    assert all(examples.nth(k).locator("img").evaluate(seen) for k in range(examples.count()))
    assert page.title() == "speech2image: say it and see it"


def test_each_state_is_seen_and_read_once(visit: Visit) -> None:
    visit.watch_states()
    visit.upload(SPOKEN)
    visit.pictures()
    seen, read = visit.states()
    assert read == ["Understanding", "Drawing", "8 pictures drawn"]
    assert seen == ["Understanding", *(f"Drawing {k} of 8" for k in range(1, 9)), "8 pictures drawn"]
    (asked,) = [request for request in visit.asked if "/page/pictures" in request.url]
    assert len(asked.response().body()) < 300_000


NEEDS_ENGINE = pytest.mark.skipif(not tts.available_voices(), reason="needs a speaking engine")


@NEEDS_ENGINE
def test_something_else_is_told_and_drawn_when_asked_for(visit: Visit) -> None:
    visit.type("a red sports car")
    remark = visit.page.get_by_role("note").filter(has_text="I only know flowers and birds; I heard")
    remark.wait_for()
    assert "car" in remark.locator("q").inner_text()
    assert visit.page.locator("#pictures img").count() == 0
    visit.page.get_by_role("button", name="Draw it anyway").click()
    assert len(visit.pictures()) == 8
    assert remark.count() == 1 and visit.page.locator(".s2i-anyway").count() == 0
    visit.page.click("#again")  # and is not asked again
    visit.page.get_by_text("seed 1,").wait_for()
    assert len(visit.pictures()) == 8


def test_what_was_heard_is_shown_and_pictures_say_what_they_are_of(visit: Visit) -> None:
    visit.upload(SPOKEN)
    visit.pictures()
    heard = visit.page.text_content(".s2i-transcript q")
    assert "red" in heard and "flower" in heard
    about = heard.replace(" (unsure)", "")
    assert visit.page.get_attribute("#pictures img >> nth=2", "alt") == f"Picture 3 of 8: {about}"


@NEEDS_ENGINE
def test_what_was_heard_is_told_on_the_other_tab_too(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("tab", name="From one to another").click()
    visit.upload(SPOKEN, "first")
    visit.upload(OTHER, "second")
    visit.pictures("#interpolation .s2i-row img")
    told = page.locator("#interpolation .s2i-transcript")
    first, second = told.all_inner_texts()
    assert first.startswith("First, I heard: ") and "red" in first
    assert second.startswith("Second, I heard: ") and "blue" in second
    page.fill("#recorder-second input[type=text]", "a red sports car")
    page.press("#recorder-second input[type=text]", "Enter")
    remark = page.get_by_role("note").filter(has_text="I only know flowers and birds; I heard")
    remark.wait_for()
    visit.wait_for_state("Nothing shown: I do not know this")
    assert page.locator("#interpolation img").count() == 0
    page.get_by_role("button", name="Draw it anyway").click()
    assert len(visit.pictures("#interpolation .s2i-row img")) == 9
    assert remark.count() == 1


def test_what_is_said_goes_with_what_is_shown(visit: Visit) -> None:
    """Each tab tells its own state; the name of a file goes when something else is drawn."""
    page = visit.page
    visit.upload(SPOKEN)
    visit.pictures()
    assert visit.status().inner_text() == SPOKEN.name
    page.get_by_role("tab", name="From one to another").click()
    assert page.inner_text("#state") == ""
    page.get_by_role("tab", name="Say it").click()
    assert page.inner_text("#state") == "8 pictures drawn"
    page.click(f"[data-example='examples/{OTHER.name}']")
    page.locator("#earlier .s2i-past >> nth=1").wait_for()  # "Drawing" may be gone before it is looked for
    assert visit.status().inner_text() == ""
    page.click("#earlier .s2i-past >> nth=1")
    visit.wait_for_state("8 pictures from before")
    assert visit.status().inner_text() == SPOKEN.name


# ---- settings, again, earlier, links -------------------------------------------------------------


def test_settings_act_at_once(visit: Visit, tmp_path: Path) -> None:
    visit.upload(SPOKEN)
    visit.pictures()
    page = visit.page
    page.get_by_role("button", name="Number").click()
    page.get_by_label("Noise seed").fill("5")
    page.get_by_label("Noise seed").press("Enter")
    page.get_by_text("seed 5,").wait_for()
    assert_same(visit.pictures(), command_line(tmp_path, "translate", str(SPOKEN), "--seed", "5"))
    page.get_by_role("slider", name="Pictures").press("ArrowLeft")
    visit.wait_for_state("7 pictures drawn")
    again = [request for request in visit.asked if "/page/pictures" in request.url]
    assert "sound=0" in again[1].url and "n=7" in again[2].url


def test_near_duplicates_are_left_out_unless_wanted(visit: Visit, tmp_path: Path) -> None:
    """The test of the upload shows that they are by default."""
    visit.upload(SPOKEN)
    visit.pictures()
    visit.page.get_by_role("button", name="Number").click()
    with visit.page.expect_response("**/page/pictures*diverse=0*") as drawn:
        visit.page.get_by_label("Leave out near-duplicates").uncheck()
    drawn.value.finished()
    expected = command_line(tmp_path, "translate", str(SPOKEN), diverse=False)
    assert_same(visit.pictures(), expected)


def test_earlier_pictures_and_their_seed_come_back(visit: Visit) -> None:
    visit.upload(SPOKEN)
    first = visit.pictures()
    visit.page.click("#again")
    visit.page.get_by_text("seed 1,").wait_for()
    visit.pictures()
    visit.page.click("#earlier .s2i-past >> nth=1")
    visit.page.get_by_text("seed 0,").wait_for()
    grid = visit.page.query_selector_all("#pictures .s2i-grid img")
    shown = [pixels(picture.get_attribute("src")) for picture in grid]
    assert all(np.array_equal(*pair) for pair in zip(shown, first, strict=True))
    assert visit.page.input_value("#say-options [name=seed]") == "0"


def test_a_link_draws_the_same(browser, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page(), address)
    visit.page.evaluate("document.querySelector('#say-options').elements.seed.value = 4")
    visit.page.evaluate("document.querySelector('#say-options').elements.diverse.checked = false")
    visit.page.click(f"[data-example='examples/{SPOKEN.name}']")
    shown = visit.pictures()
    visit.page.get_by_role("button", name="Share").click()
    visit.wait_for_state("Link copied: it draws the same pictures")
    link = visit.page.evaluate("navigator.clipboard.readText()")
    assert "seed=4" in link and SPOKEN.name in link
    other = Visit(context.new_page(), link)
    assert all(np.array_equal(*pair) for pair in zip(other.pictures(), shown, strict=True))
    assert not other.page.locator("#say-options [name=diverse]").is_checked()
    context.close()


@NEEDS_ENGINE
def test_a_link_to_what_was_drawn_anyway_draws_it(browser, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page(), address)
    visit.type("a red sports car")
    visit.page.get_by_role("button", name="Draw it anyway").click()
    shown = visit.pictures()
    visit.page.get_by_role("button", name="Share").click()
    visit.wait_for_state("Link copied: it draws the same pictures")
    other = Visit(context.new_page(), visit.page.evaluate("navigator.clipboard.readText()"))
    assert all(np.array_equal(*pair) for pair in zip(other.pictures(), shown, strict=True))
    context.close()


@pytest.mark.parametrize("trouble", ["busy", "stopping", "restart"])
def test_what_passes_is_tried_again(visit: Visit, trouble: str) -> None:
    """The recording is kept, and drawn without another press."""
    tries = []

    def answer(route) -> None:
        tries.append(route.request)
        if len(tries) > 2:
            route.continue_()
        elif trouble == "restart":
            route.abort("connectionrefused")
        else:
            problem = json.dumps({"detail": "the server is busy", "code": trouble})
            route.fulfill(status=503, body=problem, headers={"Retry-After": "1"})

    visit.page.route("**/page/pictures*", answer)
    visit.watch_states()
    visit.upload(SPOKEN)
    assert len(visit.pictures()) == 8
    assert len(tries) == 3
    told = "is busy" if trouble == "busy" else "does not answer"
    assert visit.states()[1].count(f"The server {told}. Trying again…") == 1


def test_escape_and_sliding_away_cancel(visit: Visit) -> None:
    page = visit.page
    page.hover(".s2i-talk")
    page.mouse.down()
    visit.wait_for_text("Listening, 1 s")
    page.mouse.move(600, 700)
    page.get_by_text("Release to cancel").wait_for()
    page.mouse.up()
    visit.wait_for_state("Cancelled")
    page.click(".s2i-talk")
    visit.wait_for_text("Listening, 1 s")
    page.keyboard.press("Escape")
    visit.wait_for_text("Cancelled")
    held = threading.Event()
    page.route("**/page/pictures*", lambda route: held.set())  # never answered
    visit.upload(SPOKEN)
    visit.wait_for_state("Understanding")
    page.keyboard.press("Escape")
    visit.wait_for_state("Cancelled")
    assert visit.page.locator("#pictures[aria-busy]").count() == 0
    assert visit.page.locator("#pictures img").count() == 0


def test_pictures_are_enlarged(visit: Visit) -> None:
    visit.upload(SPOKEN)
    shown, page = visit.pictures(), visit.page
    page.click("#pictures .s2i-enlarge >> nth=1")
    large = page.locator("#viewer img")
    assert np.array_equal(pixels(large.get_attribute("src")), shown[1])
    for key, place in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 7)):
        page.keyboard.press(key)
        assert np.array_equal(pixels(large.get_attribute("src")), shown[place])
    assert page.inner_text("#viewer .s2i-place") == "8 of 8"
    kept = visit.save("Save", "#viewer")
    assert kept.format == "PNG"
    assert np.array_equal(as_shown(np.asarray(kept.convert("RGB"))), shown[7])
    page.keyboard.press("Escape")
    assert not large.is_visible()


@NEEDS_ENGINE
def test_examples_and_sentences_on_the_other_tab(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("tab", name="From one to another").click()
    page.select_option("#recorder-first .s2i-pick", f"examples/{SPOKEN.name}")
    page.fill("#recorder-second input[type=text]", "a small blue bird")
    page.press("#recorder-second input[type=text]", "Enter")
    assert len(visit.pictures("#interpolation .s2i-row img")) == 9
    assert page.get_attribute("#interpolation .s2i-step >> nth=8", "aria-label").endswith(
        "100 % second (a small blue bird)"
    )


def test_neither_side_of_the_other_tab_waits_for_the_other(visit: Visit) -> None:
    """The second is here while the first still comes; then both are drawn."""
    page, waiting = visit.page, []
    page.route(f"**/examples/{SPOKEN.name}", lambda route: waiting.append(route))
    page.get_by_role("tab", name="From one to another").click()
    with page.expect_request(f"**/examples/{SPOKEN.name}"):
        page.select_option("#recorder-first .s2i-pick", f"examples/{SPOKEN.name}")
    page.select_option("#recorder-second .s2i-pick", f"examples/{OTHER.name}")
    captions = json.loads((RECORDINGS / "captions.json").read_text())
    visit.wait_for_text(captions[OTHER.name], "second")
    waiting.pop().continue_()
    assert len(visit.pictures("#interpolation .s2i-row img")) == 9


# ---- while somebody speaks -----------------------------------------------------------------------

KEEP_LIVE = """() => {
  window.live = { pictures: [], words: [] };
  new MutationObserver(() => {
    const image = document.querySelector('.s2i-live img'), words = document.querySelector('.s2i-live q');
    if (image?.src && image.src !== window.live.pictures.at(-1)) window.live.pictures.push(image.src);
    if (words && words.textContent !== window.live.words.at(-1)) window.live.words.push(words.textContent);
  }).observe(document.querySelector('#pictures'), { childList: true, subtree: true, attributes: true });
}"""
"""Keeps what is shown while somebody speaks."""


def test_pictures_change_and_words_appear_while_somebody_speaks(visit: Visit, tmp_path: Path) -> None:
    """And the final pictures are those that the command line makes of the same recording."""
    page = visit.page
    page.evaluate(KEEP_LIVE)
    page.hover(".s2i-talk")
    page.mouse.down()
    page.locator(".s2i-live q").filter(has_text=re.compile(r"red|flower|cluster")).wait_for()
    for _ in range(WAIT // 100):
        shown = page.evaluate("window.live.pictures.length")
        if shown >= 3:
            break
        page.wait_for_timeout(100)
    assert shown >= 3 and page.get_attribute(".s2i-talk", "aria-pressed") == "true"  # nobody has let go yet
    page.mouse.up()
    final = visit.pictures()
    (recording,) = visit.recordings()
    (tmp_path / "recorded.webm").write_bytes(recording)
    assert_same(final, command_line(tmp_path, "translate", str(tmp_path / "recorded.webm")))


BLOCKED = {
    "refused": "window.WebSocket = class { constructor() { throw new Error('not here'); } };",
    "cut": """window.WebSocket = class extends EventTarget {
      constructor() { super(); this.readyState = 3; } send() { throw new Error('closed'); } close() {}
    }; window.WebSocket.OPEN = 1;""",
}


@pytest.mark.parametrize("how", BLOCKED)
def test_where_websockets_are_blocked_the_pictures_come_at_the_end(browser, address: str, how: str) -> None:
    context = browser.new_context()
    context.add_init_script(BLOCKED[how])
    visit = Visit(context.new_page(), address)
    visit.page.hover(".s2i-talk")
    visit.page.mouse.down()
    visit.wait_for_text("Listening, 3 s")
    assert visit.page.locator(".s2i-live img").is_hidden()
    visit.page.mouse.up()
    assert len(visit.pictures()) == 8
    assert visit.complaints == []
    context.close()


def test_live_pictures_of_something_else_fade(visit: Visit) -> None:
    """While it sounds like nothing that can be drawn, the page says so; it may be known a word later."""
    page, white = visit.page, answers.data_url(answers.view(Image.new("RGB", (8, 8))), "image/webp")
    page.evaluate(
        """async () => { const { Live } = await import('./assets/live.js');
        window.box = document.body.appendChild(document.createElement('div'));
        window.shown = new Live(window.box, { seed: 0 }); }"""
    )
    image, words = page.locator(".s2i-live img"), page.locator(".s2i-live p")
    for domain, transcript, told in (
        ("other", "a red sports", "Nothing I know so far: a red sports"),
        ("flower", "a red flower", "I hear: a red flower"),
        ("other", None, "Nothing I know so far"),
    ):
        event = {"type": "partial", "domain": domain, "transcript": transcript}
        event["picture"] = {"webp": white.partition(",")[2]}
        page.evaluate("(event) => window.shown.take(event)", event)
        assert words.inner_text().replace('"', "").replace("\u201c", "").replace("\u201d", "") == told
        assert (image.get_attribute("class") == "s2i-doubted") == (domain == "other")
    page.evaluate("window.shown.close()")


# ---- what can go wrong ---------------------------------------------------------------------------


def test_a_file_that_is_no_recording(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no sound at all")
    visit.upload(tmp_path / "notes.wav")
    alert = visit.page.get_by_role("alert").filter(has_text="not a recording that can be played")
    alert.wait_for()
    assert visit.page.is_disabled("#again")


def test_silence_is_said_kindly(launch: Callable, address: str) -> None:
    visit = Visit(launch("silence", np.zeros(48_000)).new_page(), address)
    visit.page.click(".s2i-talk")  # a short press starts, the next one stops
    visit.wait_for_text("Listening, 1 s")
    assert visit.page.inner_text("#say-hint") == "Press again to draw"
    visit.page.click(".s2i-talk")
    visit.page.get_by_role("alert").filter(has_text="I heard nobody speak").wait_for()


def test_no_microphone_allowed(launch: Callable, address: str) -> None:
    visit = Visit(launch("refused", None).new_context(permissions=[]).new_page(), address)
    visit.page.click(".s2i-talk")
    visit.wait_for_text("The microphone is not allowed")
    assert "drop a recording or type a sentence" in visit.status().inner_text()
    visit.upload(SPOKEN)  # and that works
    assert len(visit.pictures()) == 8


def test_an_empty_sentence(visit: Visit) -> None:
    """The reason stays: nothing is drawn after it."""
    visit.page.click("#speak")
    told = visit.page.get_by_role("alert").filter(has_text="Type a sentence first")
    told.wait_for()
    visit.page.wait_for_load_state("networkidle")
    assert visit.posts() == []
    assert told.is_visible()


# ---- everybody can use it ------------------------------------------------------------------------


def test_phone(browser, address: str) -> None:
    """Nothing is wider than the screen, before and after, on both tabs."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visit = Visit(context.new_page(), address)
    wide = "document.scrollingElement.scrollWidth"
    assert visit.page.evaluate(wide) <= 390
    size = "e => parseFloat(getComputedStyle(e).fontSize)"
    assert visit.page.eval_on_selector("#sentence input", size) >= 16  # else the page jumps at a touch
    visit.page.tap(f"[data-example='examples/{SPOKEN.name}']")
    visit.pictures()
    assert visit.page.evaluate(wide) <= 390
    visit.page.mouse.wheel(0, 2000)
    box = visit.page.locator("#recorder-say .s2i-talk").bounding_box()
    assert 600 < box["y"] < 844 - box["height"]  # in reach of the thumb, wherever the page is
    visit.page.get_by_role("tab", name="From one to another").tap()
    visit.upload(SPOKEN, "first")
    visit.upload(OTHER, "second")
    visit.pictures("#interpolation .s2i-row img")
    assert visit.page.evaluate(wide) <= 390
    context.close()


CONTRAST = """() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const shown = (e) => e.getClientRects().length && !e.closest('.s2i-unseen, :disabled, option');
  return [...document.querySelectorAll('body *')].filter((e) => own(e) && shown(e)).map((e) => {
    const both = [channels(getComputedStyle(e).color), behind(e)];
    const [a, b] = both.map(light).sort((x, y) => y - x);
    return [Math.round(100 * (a + 0.05) / (b + 0.05)) / 100, e.textContent.trim().slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser, address: str, scheme: str) -> None:
    """Every text has a contrast of at least 4.5 to what is behind it (WCAG 2.2, 1.4.3)."""
    context = browser.new_context(color_scheme=scheme)
    visit = Visit(context.new_page(), address)
    visit.upload(SPOKEN)
    visit.pictures()
    visit.page.get_by_role("button", name="Number").click()
    assert visit.page.evaluate(CONTRAST) == []
    visit.page.get_by_role("tab", name="From one to another").click()
    visit.page.click("#interpolate")
    visit.page.get_by_role("alert").filter(has_text="Both").wait_for()
    assert visit.page.evaluate(CONTRAST) == []
    context.close()


UNNAMED = """() => {
  const named = (e) => e.getAttribute('aria-label') || e.getAttribute('title') || e.textContent.trim() ||
    (e.labels && [...e.labels].some((l) => l.textContent.trim())) ||
    (e.getAttribute('aria-labelledby') && document.getElementById(e.getAttribute('aria-labelledby')));
  const seen = (e) => e.getClientRects().length && getComputedStyle(e).visibility !== 'hidden';
  return [...document.querySelectorAll('button, input, select, textarea, a, audio, [role=slider]')]
    .filter((e) => seen(e) && !named(e)).map((e) => e.outerHTML.slice(0, 200))
    .concat([...document.querySelectorAll('img:not([alt])')].map((e) => e.outerHTML.slice(0, 120)));
}"""


def test_everything_has_a_name_for_screen_readers(visit: Visit) -> None:
    visit.upload(SPOKEN)
    visit.pictures()
    visit.page.get_by_role("button", name="Number").click()  # opens the options
    visit.page.get_by_label("Noise seed").wait_for()
    assert visit.page.evaluate(UNNAMED) == []
    assert visit.page.locator("html").get_attribute("lang") == "en"
    assert visit.page.locator("h1").count() == 1


def test_keyboard_reaches_all(visit: Visit) -> None:
    visit.upload(SPOKEN)
    visit.pictures()
    reached = []
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.className + document.activeElement.id"))
        outline = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        on_body = visit.page.evaluate("document.activeElement === document.body")  # between last and first
        assert on_body or outline != "none", reached[-1]
    text = " ".join(reached)
    speak, example = (
        next(i for i, n in enumerate(reached) if part in n) for part in ("speak", "s2i-example")
    )
    assert speak < example  # typing comes before the examples
    assert all(
        part in text
        for part in ("s2i-talk", "s2i-choose", "s2i-example", "speak", "again", "s2i-save", "s2i-enlarge")
    )


# ---- the server behind it ------------------------------------------------------------------------


def test_key_guards_the_page(browser) -> None:
    with server_of(None, environment={"SPEECH2IMAGE_API_KEY": "secret key"}) as (_, address):
        page = browser.new_page()
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.wait_for_selector("input[type=password]")
        assert page.locator(".s2i-talk").count() == 0
        refused = page.request.post(f"{address}/login", form={"username": "me", "password": "wrong"})
        assert refused.status == 400
        for path in ("pictures", "interpolation", "speech"):
            assert page.request.post(f"{address}/page/{path}", data=b"x").status == 401
        page.fill("input[type=password]", "secret key")  # and no name
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector(".s2i-talk")
        page.set_input_files("#recorder-say input[type=file]", SPOKEN)
        page.locator("#state").filter(has_text="8 pictures drawn").wait_for()
        (cookie,) = page.context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and "secret" not in cookie["value"]
        page.get_by_role("button", name="Log out").click()
        page.wait_for_selector("input[type=password]")
        assert page.context.cookies() == []
        page.go_back()
        page.wait_for_selector("input[type=password]")
        page.close()


def test_a_stop_does_not_wait_for_open_pages(browser, tiny: Path) -> None:
    with server_of(tiny, "--grace-seconds", "100000") as (process, address):
        visit = Visit(browser.new_page(), address)
        visit.upload(SPOKEN)
        visit.pictures()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(120) == 0
        visit.page.close()


def test_routes_side_by_side(browser, tiny: Path, monkeypatch, tmp_path: Path) -> None:
    """A route with a transcript (issue 5) is offered, and shown beside the direct one."""
    import uvicorn

    from speech2image.web import registry
    from speech2image.web.app import make_app
    from speech2image.web.server import Server
    from speech2image.web.settings import ServerSettings

    monkeypatch.setitem(registry.OPENERS, "cascade", open_understood)
    app = make_app(ServerSettings(models=(str(tiny),), threads=1))
    addresses, started = [], threading.Event()

    def listening(address: str) -> None:
        addresses.append(address)
        started.set()

    server = Server(uvicorn.Config(app, port=0, log_level="warning"), listening)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(120)
        visit = Visit(browser.new_page(), addresses[0])
        visit.page.get_by_role("button", name="Number").click()
        visit.page.get_by_label("side by side").check()
        visit.upload(write_wav(tmp_path / "a.wav", 1.5, 0))
        assert len(visit.pictures()) == 16
        sections = visit.page.locator("#pictures .s2i-pictures")
        assert sections.nth(0).locator("h2").inner_text() == "direct"
        assert sections.nth(0).locator(".s2i-transcript").count() == 0
        assert sections.nth(1).locator("h2").inner_text() == "cascade"
        assert "a red flower" in sections.nth(1).inner_text()
        visit.page.close()
    finally:
        server.should_exit = True
        thread.join(60)
