"""Is the colour of a short command drawn? "uh a red flower", "draw a blue bird", by each voice kept out.

    python benchmarks/short_commands.py --data shards/flowers shards/birds --voices flite/kal16 reader/3853

The data sets hold short speech (`prepare --captions short --part short`); only commands about unseen classes
that name a colour count. The colour read in the picture is that of `metrics/colour_agreement.py`, whose
reader is fitted on the set's training photographs. With --whisper a folder of faster-whisper, it also
says which of the colours Whisper hears.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

import speech2image
from speech2image import audio
from speech2image.asr.backends import Whisper
from speech2image.data.pairs import ShardUtterance, part_shards, stream_speech
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import SpeechError
from speech2image.evaluation.colours import fit_reader
from speech2image.evaluation.real_set import Photographs
from speech2image.metrics.colour_words import main_colours


@dataclass(frozen=True)
class Settings:
    """What to draw.

    Attributes:
        data: shards folders with short speech.
        voices: kept out of every training.
        model: name or folder.
        part: of the short speech.
        per_voice: commands of each voice and set.
        whisper: a folder of faster-whisper, to compare with; none by default.
        out: where every command goes, as JSON; nowhere by default.
    """

    data: Annotated[tuple[Path, ...], tyro.conf.arg(name="data")]
    voices: tuple[str, ...]
    model: str = "flowers-and-birds"
    part: str = "short"
    per_voice: int = 50
    whisper: str = ""
    out: Path | None = None


def main(settings: Settings) -> None:
    """Draw, read the colours, print a row for each set and voice; a refused command is a wrong one."""
    route = speech2image.load(settings.model)
    whisper = Whisper(settings.whisper) if settings.whisper else None
    rows = []
    heading = " colour written by Whisper |" if whisper else ""
    print(f"| set | voice | commands | colour drawn |{heading}\n|---|---|---|---|{'---|' if whisper else ''}")
    for folder in settings.data:
        arrays = PairArrays.open(folder)
        reader = fit_reader(Photographs(arrays, route.picture_size))
        if reader is None:
            raise SystemExit(f"{folder}: captions name no colours")
        commands = chosen(folder, arrays, settings)
        for voice in settings.voices:
            own = [command for command in commands if command.utterance.voice == voice]
            drawn, written = [], []
            for command in own:
                try:
                    picture = np.asarray(route.translate(command.utterance.audio).images[0])
                    (colour,) = reader.read([picture])
                except SpeechError:
                    colour = "refused"
                drawn.append(colour in main_colours(command.text))
                heard = whisper.transcribe(audio.load(command.utterance.audio)) if whisper else ""
                written.append(bool(set(main_colours(command.text)) & set(main_colours(heard))))
                rows.append({"set": folder.name, "voice": voice, "said": command.text, "drawn": colour})
            shares = [f"{np.mean(found):.0%}" if found else "-" for found in (drawn, written)]
            print(f"| {folder.name} | {voice} | {len(own)} | {' | '.join(shares[: 2 if whisper else 1])} |")
    if settings.out is not None:
        settings.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def chosen(folder: Path, arrays: PairArrays, settings: Settings) -> list[ShardUtterance]:
    """Up to so many commands of each voice about unseen classes that name a colour, as they come."""
    unseen = {name for name, split in zip(arrays.ids, arrays.splits, strict=True) if split == "test"}
    kept: dict[str, list[ShardUtterance]] = {voice: [] for voice in settings.voices}
    for spoken in stream_speech(part_shards(folder, settings.part)):
        own = kept.get(spoken.utterance.voice)
        wanted = own is not None and len(own) < settings.per_voice and spoken.sample in unseen
        if own is not None and wanted and main_colours(spoken.text):
            own.append(spoken)
    return [spoken for own in kept.values() for spoken in own]


if __name__ == "__main__":
    main(tyro.cli(Settings))
