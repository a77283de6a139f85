"""The text of `--help`: sections with an entry per option, its range and default, for 80 columns."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from pydantic import ByteSize
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup

from blemish.cli.terminal import console

METAVARS = {
    "<int>": "N",
    "<int range>": "N",
    "<float range>": "X",
    "<float>": "X",
    "<path>": "PATH",
    "<str>": "TEXT",
    "<list[str]>": "TEXT",
    "<list[Path]>": "PATH",
    "<bool>": "",
}
"""Type in typer's help -> placeholder of its value."""


class Command(TyperCommand):
    """A command with this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """Prints the help."""
        _print_help(self, ctx)


class Group(TyperGroup):
    """A group of commands with this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """Prints the help."""
        _print_help(self, ctx)


def _print_help(command: TyperCommand | TyperGroup, ctx: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
    commands = _commands(command, ctx) if isinstance(command, TyperGroup) else {}
    for parameter in command.get_params(ctx):
        if not getattr(parameter, "hidden", False):
            usual = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
            sections[getattr(parameter, "rich_help_panel", None) or usual].append(_entry(parameter, ctx))
    arguments = [_label(found) for found in command.get_params(ctx) if isinstance(found, TyperArgument)]
    arguments += ["COMMAND ..."] if isinstance(command, TyperGroup) else []
    console.print(Text.assemble(("Usage: ", "bold"), " ".join([ctx.command_path, "[OPTIONS]", *arguments])))
    for paragraph in (command.help or "").split("\n\n"):
        console.print(Text("\n" + " ".join(paragraph.split())))
    console.print()
    for kind in (commands, sections):
        width = max((len(name) for entries in kind.values() for name, _ in entries), default=0)
        for title, entries in kind.items():
            console.rule(Text(title, style="bold"), align="left", style="dim")
            console.print(Padding(_table(entries, width), (0, 0, 0, 1)))
    if command.epilog:
        console.print(Text(f"\n{command.epilog}"))


def _table(entries: list[tuple[str, str]], width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width, no_wrap=True, style="cyan")
    table.add_column()
    for name, text in entries:
        table.add_row(Text(name), Text(text))
    return table


def _commands(group: TyperGroup, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in group.list_commands(ctx):
        command = group.commands[name]
        first = re.split(r"[.:;] |\.$", " ".join((command.help or "").split("\n\n")[0].split()))[0]
        sections[getattr(command, "rich_help_panel", None) or "Commands"].append((name, first))
    return sections


def _entry(parameter: Any, ctx: Any) -> tuple[str, str]:
    """The parameter's name with a placeholder, and its help with range and default."""
    facts = _facts(parameter)
    text = f"{parameter.help or ''} [{'; '.join(facts)}]" if facts else parameter.help or ""
    if isinstance(parameter, TyperArgument):
        return _label(parameter), text
    metavar = METAVARS.get(named := parameter.metavar or parameter.display_type(ctx), named)
    return f"{_names(parameter)} {metavar}".rstrip(), text


def _label(argument: TyperArgument) -> str:
    return (argument.name or "").upper() + ("..." if argument.nargs != 1 else "")


def _names(option: Any) -> str:
    """The names of an option, such as `--out`, `-h, --help`, or `--[no-]shared` for a switch."""
    if any(name == f"--no-{option.opts[0].removeprefix('--')}" for name in option.secondary_opts):
        return f"--[no-]{option.opts[0].removeprefix('--')}"
    return ", ".join(option.opts)


def _facts(parameter: Any) -> list[str]:
    facts: list[str] = []
    low, high = parameter.min, parameter.max
    if low is not None:
        facts.append(f"{low} or more" if high is None else f"{low} to {high}")
    if parameter.required and not isinstance(parameter, TyperArgument):
        facts.append("required")
    elif parameter.default not in (None, ()) and not parameter.is_eager and parameter.show_default:
        facts.append(f"default: {format_default(parameter.default)}")
    return facts


def format_default(default: object) -> str:
    """A default value in words, such as '4' for 4.0, 'on' for True, or '4.0GiB' for bytes."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, ByteSize):
        return default.human_readable()
    return f"{default:g}" if isinstance(default, float) else str(default)
