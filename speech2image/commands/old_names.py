"""Old flags of the command line: hidden aliases, which say their new names and go with version 0.3.

A renamed flag or value stands in one of the two tables below, and nowhere else.
"""

import warnings

OLD_FLAGS: dict[str, str] = {
    "--told": "--n-predicted",
    "--borrowed": "--residual-blend",
    "--prior.told": "--prior.n-predicted",
    "--prior.borrowed": "--prior.residual-blend",
}
"""Old flag -> flag, with their dashes."""

OLD_VALUES: dict[tuple[str, str], str] = {
    ("--effects", "usual"): "default",
    ("--effects", "lively"): "strong",
}
"""(flag, old value) -> value; the flag by its present name."""


def renamed(arguments: list[str]) -> list[str]:
    """The arguments with present names in place of old ones, which warn (FutureWarning)."""
    found: list[str] = []
    flag = ""
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            flag = _present(name, OLD_FLAGS.get(name.replace("_", "-")))
            value = _present(value, OLD_VALUES.get((flag, value)))
            found.append(f"{flag}{equals}{value}")
        else:
            found.append(_present(word, OLD_VALUES.get((flag, word))))
    return found


def _present(old: str, new: str | None) -> str:
    if new is None:
        return old
    warnings.warn(
        f"{old} is called {new} since version 0.2; the old name goes with 0.3", FutureWarning, stacklevel=2
    )
    return new
