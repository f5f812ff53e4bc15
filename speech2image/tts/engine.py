"""The interface of a speaking engine, and how a sentence is delivered."""

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class Delivery:
    """How an engine says a sentence.

    Attributes:
        rate: speed relative to the voice's own.
        pitch: pitch relative to the voice's own; for engines whose `sets_pitch` is true.
        seed: of the engine's own draws, where it draws at all (Piper).
        variation: strength of these draws relative to the voice's own.
        threads: of a network (Piper, Kokoro); None: all cores this process may use.
    """

    rate: float = 1.0
    pitch: float = 1.0
    seed: int = 0
    variation: float = 1.0
    threads: int | None = None


class Engine(Protocol):
    """What each engine's module offers; a name is that of a voice, without the engine's."""

    def names(self) -> list[str]:
        """The voices found on this machine."""

    def find(self, name: str) -> bool:
        """Whether `name` can speak here; an engine whose voices are files may raise what is missing."""

    def sets_pitch(self, name: str) -> bool:
        """Whether the engine itself changes the pitch of this voice."""

    def speak(self, text: str, name: str, delivery: Delivery) -> tuple[NDArray[Any], int]:
        """Plain ASCII text as mono samples (int16, or float32 in [-1, 1]) and their rate in Hz."""
