"""Keeps networks that two model folders have in common in one of them; the other names its folder.

    python scripts/share_networks.py --model models/flowers-and-birds-textfree \
        --lenders models/flowers-and-birds --name flowers-and-birds-textfree

What a lender has byte for byte leaves MODEL. A lender that borrows from MODEL (`export --generator-of`) takes
that into its own folder first, so the two change places. No network is changed: checksums stay.
"""

import argparse
import sys
from pathlib import Path

from speech2image.errors import Speech2ImageError
from speech2image.export.folder import share_networks
from speech2image.pipeline.registry import read_card


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    changes = {key: getattr(options, key) for key in ("name", "description") if getattr(options, key)}
    try:
        lenders = [read_card(folder) for folder in options.lenders]
        shared = share_networks(read_card(options.model), lenders, **changes)
    except Speech2ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for network, folder in shared.items():
        print(f"{network}: in {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder that is written again")
    parser.add_argument("--lenders", type=Path, nargs="+", required=True, help="model folders beside it")
    parser.add_argument("--name", help="what the model is called from now on")
    parser.add_argument("--description", help="what speech2image models says of it from now on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
