"""The command line: parses, calls, prints. Each command imports what it needs, so that inspecting starts at once."""

from blemish.cli.app import main
from blemish.cli.learning import train

__all__ = ["main", "train"]
