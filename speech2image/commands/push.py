"""push: puts a model folder at a hub."""

import tyro

from speech2image.commands.flags import NO_PAIRS, parse
from speech2image.pipeline import registry


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` and do it."""
    parse(push, command, arguments, config=NO_PAIRS)


def push(
    model: tyro.conf.Positional[str],
    to: tyro.conf.Positional[str],
    private: bool = False,
    message: str = "",
) -> None:
    """Put a model at Hugging Face, from where load("hf://user/name") and --model hf://user/name take it.

    HF_TOKEN holds a token that may write; HF_ENDPOINT names another server. Mind the licence of the
    weights and of what they were trained on.

    Example: speech2image push runs/mine/model hf://user/name

    Args:
        model: model folder, or a shipped model's name.
        to: hf://user/name; made if it is not there.
        private: make it private.
        message: of the commit.
    """
    from speech2image.pipeline import hub

    print(hub.push(registry.find(model), to, private=private, message=message))
