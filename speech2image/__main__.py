"""`python -m speech2image` is the `speech2image` command."""

import sys

from speech2image.cli import main

sys.exit(main())
