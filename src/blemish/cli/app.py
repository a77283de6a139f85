"""All commands as one program: what it prints where something is wrong, and with which code it exits."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.logging import RichHandler

import blemish
from blemish.cli import data, deciding, learning, measuring
from blemish.cli.boundary import INTERRUPTED, boundary, interrupted
from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError


def main(arguments: Sequence[str] | None = None) -> None:
    """The `blemish` command: exit code 0 where all went well, 2 for what is the user's to mend, 130 on Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((argument for argument in given if not argument.startswith("-")), "")
    handler = RichHandler(console=errors, show_time=False, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler])
    logging.getLogger("blemish").setLevel(logging.INFO)
    with boundary(command):
        _prepare(given)
        parser, given = _learning_parser(command, given) if command in learning.COMMANDS else (_unparsed, given)
        code = build_app({command: parser})(given, standalone_mode=False)
    if code == INTERRUPTED:
        interrupted(command)
    sys.exit(code)


def _prepare(arguments: Sequence[str]) -> None:
    """Has names that are not UTF-8 printed with escapes, and refuses what no path or number can hold."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if any("\0" in argument for argument in arguments):
        raise BlemishError("an argument holds a NUL character, which no path can. Leave it out.")


def _learning_parser(command: str, given: list[str]) -> tuple[Callable[..., None], list[str]]:
    """A command that learns, with a flag for each setting and option, and its arguments as it takes them.

    To know the options imports torch, so this is only for those commands themselves.
    """
    from blemish.cli.flags import detector_flags, fit_flags, one_value_each, run_flags, with_flags

    fields, options = fit_flags() if command == "fit" else run_flags(), detector_flags()
    return with_flags(learning.COMMANDS[command], fields, options), one_value_each(given, fields | options)


def _unparsed() -> None:
    """Stands for a command that learns where another one was given."""


def build_app(parsers: dict[str, Callable[..., None]]) -> typer.Typer:
    """The commands; `parsers` has the one that learns, if it is the one that was given."""
    app = typer.Typer(
        help="Finds defects in pictures of manufactured parts, having seen only good ones.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, learn in learning.COMMANDS.items():
        app.command(name, help=learn.__doc__)(parsers.get(name, _unparsed))
    for name, command in (deciding.COMMANDS | measuring.COMMANDS | data.COMMANDS).items():
        app.command(name)(command)
    data_sets = typer.Typer(help="Looks at data sets.", no_args_is_help=True)
    for name, command in data.DATA_COMMANDS.items():
        data_sets.command(name)(command)
    app.add_typer(data_sets, name="data")
    return app


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"blemish {blemish.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
