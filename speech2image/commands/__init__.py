"""The subcommands of `speech2image`; see `speech2image/cli.py`."""
