"""The command line. Each command imports what it needs when it runs, so that all commands start quickly."""

from blemish.cli.app import main
from blemish.cli.commands.train import train

__all__ = ["main", "train"]
