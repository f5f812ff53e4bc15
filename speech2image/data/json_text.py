"""JSON out of files that others wrote: whatever it holds, a value comes back or one error."""

import json
from typing import Any

from speech2image.errors import DataError


def parse_json(text: str | bytes, place: str, advice: str = "") -> Any:
    """The value that JSON text stands for; `place` is what an error calls it, `advice` what it ends in.

    Raises:
        DataError: no JSON; nested too deep; a number of thousands of digits; a text that is no Unicode (half
            of a surrogate pair).
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise DataError(f"{place} is nested too deep{advice}") from error
    except UnicodeError as error:
        raise DataError(f"{place} holds text that is no Unicode: {error}{advice}") from error
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}{advice}") from error
    return value
