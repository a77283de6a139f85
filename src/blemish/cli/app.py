"""All commands as one program: what it prints where something is wrong, and with which code it exits."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

import blemish
from blemish.cli import data, deciding, learning, measuring
from blemish.cli.boundary import INTERRUPTED, boundary, interrupted
from blemish.cli.help import Command, Group
from blemish.cli.terminal import console, errors, show_log
from blemish.errors import BlemishError

QUIET = "--quiet"
OPENCV = {"OPENCV_FOR_THREADS_NUM": "1", "OPENCV_LOG_LEVEL": "SILENT"}
"""Environment of the commands: they decode several files at a time, each in one thread, and say themselves, once, what
is wrong with a file. OpenCV reads it when it is loaded."""
HEADINGS = {
    "fit": "Learn from good images, then inspect",
    "predict": "Learn from good images, then inspect",
    "calibrate": "Learn from good images, then inspect",
    "export": "Learn from good images, then inspect",
    "train": "Compare methods on a data set",
    "evaluate": "Compare methods on a data set",
    "metrics": "Compare methods on a data set",
    "compare": "Compare methods on a data set",
    "report": "Compare methods on a data set",
    "data": "Data sets",
    "synth": "Data sets",
    "demo": "Data sets",
}
"""Command -> its heading in the help, in the order in which they stand there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The `blemish` command: exit code 0 where all went well, 2 for what is the user's to mend, 130 on Ctrl-C."""
    given = sorted(sys.argv[1:] if arguments is None else arguments, key=QUIET.__ne__)  # it may stand anywhere
    line = given or _completed()
    command = next((word for word in line if not word.startswith("-")), "")
    errors.quiet = bool(_completed())
    show_log()
    os.environ.update(OPENCV)
    with boundary(command, lambda error: _mended(error, given)):
        _prepare(given)
        parsers, rest = {}, given
        if command in learning.COMMANDS:
            parsers[command], rest = _learning_parser(command, given, line)
        code = build_app(parsers)(rest, standalone_mode=False, prog_name="blemish")
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


def _completed() -> list[str]:
    """The words of the line that a shell asks completions for."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return line.split()[1:]


def _mended(error: TyperException, given: Sequence[str]) -> str:
    """What is wrong with the arguments, and where to read what is right."""
    message = error.format_message().replace("Value error, ", "")
    if not message.endswith("?"):
        message = message.rstrip(".") + "."
    words = [word for word in given if not word.startswith("-")]
    chosen = words[: 2 if words[:1] == ["data"] and words[1:2] and words[1] in data.DATA_COMMANDS else 1]
    known = chosen if chosen and chosen[0] in HEADINGS else []
    return f"{message} '{' '.join(['blemish', *known, '--help'])}' says what there is."


def _learning_parser(command: str, given: list[str], line: list[str]) -> tuple[Callable[..., None], list[str]]:
    """A command that learns, with a flag for each setting and option of its model, and its arguments as it takes them.

    `line` names the model: the arguments, or those that a shell asks completions for. To know the options imports
    torch, so this is only for those commands themselves.
    """
    from blemish.cli import flags
    from blemish.runs.config import FIT_MODEL, RunConfig

    with errors.status("starting"):
        usual = FIT_MODEL if command == "fit" else RunConfig.model_fields["model"].default
        model = flags.model_of(line, usual)
        fields = flags.fit_flags(model) if command == "fit" else flags.run_flags(model)
        options = flags.detector_flags(model)
    flags.refuse_other_models(model, given, fields | options)
    parser = flags.with_flags(learning.COMMANDS[command], fields, options)
    return parser, flags.one_value_each(given, fields | options)


def _unparsed() -> None:
    """Stands for a command that learns where another one was given."""


def build_app(parsers: dict[str, Callable[..., None]]) -> typer.Typer:
    """The commands; `parsers` has the one that learns, if it is the one that was given."""
    app = _group("Finds defects in images of manufactured parts; learns from good ones alone.", _root)
    data_sets = _group("Looks at data sets.", _help_alone, add_completion=False)
    for name, command in data.DATA_COMMANDS.items():
        data_sets.command(name, cls=Command)(command)
    others = deciding.COMMANDS | measuring.COMMANDS | data.COMMANDS
    for name, heading in HEADINGS.items():
        if name == "data":
            app.add_typer(data_sets, name=name, rich_help_panel=heading)
        elif learns := learning.COMMANDS.get(name):
            register = app.command(
                name, cls=Command, help=learns.__doc__, epilog=learning.EPILOGS[name], rich_help_panel=heading
            )
            register(parsers.get(name, _unparsed))
        else:
            app.command(name, cls=Command, rich_help_panel=heading)(others[name])
    return app


def _group(text: str, callback: Callable[..., None], *, add_completion: bool = True) -> typer.Typer:
    """Commands that take `--batch_size` for `--batch-size`; without one of them the help is shown."""
    app = typer.Typer(
        help=text,
        cls=Group,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
    )
    app.callback(invoke_without_command=True)(callback)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"blemish {blemish.__version__}")
        raise typer.Exit


def _help_alone(context: typer.Context) -> None:
    """A group of commands without one: its help."""
    if context.invoked_subcommand is None:
        context.get_help()


def _root(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress and no remarks: results, warnings, errors.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does all
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if quiet:
        show_log(quiet=True)
    _help_alone(context)
