"""Word error table: how much of what was said the recognizer of a route through text wrote down.

For routes that go through text (`route.transcribe(recording) -> str`); the direct route has none.
"""

from collections.abc import Sequence
from typing import Any

from speech2image.metrics.word_errors import content_word_error_rate, word_error_rate

NO_TEXT = "the direct route goes without text: there are no words to be wrong"
NOT_HEARD = "the captions were drawn as they are written (--captions): nothing was heard"


def word_row(voices: str, references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """Word error rate and content-word error rate of some transcripts.

    Args:
        voices: one of `utterances.VOICES`, possibly with ", not augmented".
        references: the captions spoken.
        hypotheses: what was written down.

    Raises:
        DataError: the numbers differ, or no reference has a word.
    """
    return {
        "voices": voices,
        "utterances": len(references),
        "wer": word_error_rate(references, hypotheses),
        "content_wer": content_word_error_rate(references, hypotheses),
    }
