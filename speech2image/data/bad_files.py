"""Files of a corpus that cannot be used: all are looked at before they are named, or left out if wanted."""

import warnings
from collections.abc import Sequence

from speech2image.errors import DataError

SHOWN = 10


def report_bad_files(problems: Sequence[str], *, skip: bool) -> None:
    """Tell of files that cannot be used; `problems` says of each what is wrong.

    Raises:
        DataError: there are some and `skip` is off.

    Warns:
        UserWarning: there are some and `skip` is on.
    """
    if not problems:
        return
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    listed = "; ".join(problems[:SHOWN]) + more
    if skip:
        count = "1 bad file was" if len(problems) == 1 else f"{len(problems)} bad files were"
        warnings.warn(f"{count} left out: {listed}", stacklevel=3)
        return
    if len(problems) == 1:
        raise DataError(f"{listed}; mend it or take it out of the set, or go on without it: --skip-bad")
    raise DataError(
        f"{len(problems)} files cannot be used: {listed}; mend them or take them out of the set, "
        "or go on without them: --skip-bad"
    )
