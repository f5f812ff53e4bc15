"""A route that goes through text, without a recognizer: its result carries a transcript."""

from dataclasses import replace

from speech2image.pipeline import loading
from speech2image.pipeline.base import Translation


class UnderstoodRoute:
    def __init__(self, direct) -> None:
        self._direct = direct
        self.name, self.model, self.picture_size = direct.name, direct.model, direct.picture_size
        self.vad, self.generator, self.capabilities = direct.vad, direct.generator, direct.capabilities

    def encode(self, speech, timings=None):
        return self._direct.encode(speech, timings)._replace(transcript="a red flower")

    def tell(self, *values) -> Translation:
        return replace(self._direct.tell(*values), route="cascade")

    def translate(
        self, speech, n: int = 1, seed: int = 0, *, diverse: bool = False, quick: bool = False
    ) -> Translation:
        result = self._direct.translate(
            speech, n, seed + 100, diverse=diverse
        )  # other pictures than the direct route's
        return replace(result, seed=seed, transcript="a red flower", route="cascade")


def open_understood(model: str, threads) -> UnderstoodRoute:
    return UnderstoodRoute(loading.load(model, threads=threads))
