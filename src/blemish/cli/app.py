"""The program `blemish`: its commands, the parsing of arguments, and exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

import blemish
from blemish.cli.boundary import INTERRUPTED, boundary, interrupted
from blemish.cli.commands import (
    benchmark,
    calibrate,
    data,
    evaluate,
    export,
    fit,
    predict,
    report,
    score,
    serve,
    submit,
    sweep,
    train,
)
from blemish.cli.help import Command, Group
from blemish.cli.terminal import console, errors, show_log
from blemish.errors import BlemishError
from blemish.parallel import set_allocator

QUIET = "--quiet"
HEADINGS = {
    "fit": "Learn from good images, then inspect",
    "predict": "Learn from good images, then inspect",
    "score": "Learn from good images, then inspect",
    "calibrate": "Learn from good images, then inspect",
    "export": "Learn from good images, then inspect",
    "serve": "Learn from good images, then inspect",
    "train": "Compare methods on a data set",
    "benchmark": "Compare methods on a data set",
    "sweep": "Compare methods on a data set",
    "evaluate": "Compare methods on a data set",
    "metrics": "Compare methods on a data set",
    "compare": "Compare methods on a data set",
    "report": "Compare methods on a data set",
    "submit": "Compare methods on a data set",
    "data": "Data sets",
    "synth": "Data sets",
    "demo": "Data sets",
}
"""Command -> its heading in the help; the order is that of the help."""
LEARNING: dict[str, Callable[..., None]] = {
    "fit": fit.fit_command,
    "train": train.train_command,
    "benchmark": benchmark.benchmark_command,
    "sweep": sweep.sweep_command,
}
"""Commands with a flag for each setting of a run; `fit` and `train` also for each option of the chosen detector."""
EPILOGS = {"fit": fit.EPILOG, "train": train.EPILOG, "benchmark": benchmark.EPILOG, "sweep": sweep.EPILOG}
COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict.predict_command,
    "score": score.score_command,
    "calibrate": calibrate.calibrate_command,
    "export": export.export_command,
    "serve": serve.serve_command,
    "evaluate": evaluate.evaluate_command,
    "metrics": evaluate.metrics_command,
    "compare": benchmark.compare_command,
    "report": report.report_command,
    "submit": submit.submit_command,
    "synth": data.synth_command,
    "demo": data.demo_command,
}
"""The other commands."""
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "check": data.check_command,
    "import": data.import_command,
    "unpack": data.unpack_command,
}
"""The commands of the group `blemish data`."""


SETTINGS = {
    "OPENCV_FOR_THREADS_NUM": "1",  # several files are decoded at a time instead
    "OPENCV_LOG_LEVEL": "SILENT",  # blemish reports what is wrong with a file itself
    # Gradients are allocated anew in every step. In pages of 2 MB instead of 4 kB that takes a step of 95.7 million
    # parameters from 0.66 s to 0.48 s.
    "THP_MEM_ALLOC_ENABLE": "1",
    # torch's threads would wait for its next operation on the cores that OpenVINO computes on: 117 ms an image, not 132
    "GOMP_SPINCOUNT": "10000",
}
"""Of the whole process, which is the command's own; who imports blemish keeps theirs. OpenCV and torch read them when
they are first used, which no command has done yet."""


MALLOPT = {-3: 32 << 20, -1: 64 << 20}
"""Options of glibc's allocator (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) and their values in bytes. Freed memory of up to
that size is used again. New memory is cleared page by page, which takes as long as what is computed in it: inflating
and copying a PNG of 1024 x 1024 pixels takes 17 ms in new memory and 12 ms in used memory."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line with `arguments` (None: those of the process), and exits.

    Exit codes: 0: success, 2: an error that the user can fix, 130: Ctrl-C, 1: a bug; 3: see `blemish predict`.
    """
    prepare_process()
    given = sorted(sys.argv[1:] if arguments is None else arguments, key=QUIET.__ne__)  # --quiet may stand anywhere
    line = given or _completion_words()
    command = next((word for word in line if not word.startswith("-")), "")
    errors.quiet = bool(_completion_words())
    show_log()
    with boundary(command, lambda error: _usage_error(error, given)):
        _prepare(given)
        parsers, rest = {}, given
        if command in LEARNING:
            parsers[command], rest = _learning_parser(command, given, line)
        code = build_app(parsers)(rest, standalone_mode=False, prog_name="blemish")
    if code == INTERRUPTED:
        interrupted(command)
    sys.exit(code)


def prepare_process() -> None:
    """Applies SETTINGS to this process, and where the C library is glibc, MALLOPT."""
    os.environ.update(SETTINGS | os.environ)
    set_allocator(MALLOPT)


def _prepare(arguments: Sequence[str]) -> None:
    """Makes output print names that are not UTF-8 with escapes; raises BlemishError for NUL characters in arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if any("\0" in argument for argument in arguments):
        raise BlemishError("an argument contains a NUL character. Remove it.")


def _completion_words() -> list[str]:
    """The words of the line that a shell requests completions for; empty outside of completion."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return line.split()[1:]


def _usage_error(error: TyperException, given: Sequence[str]) -> str:
    """The message for wrong arguments, with a reference to the help."""
    message = error.format_message().replace("Value error, ", "")
    if not message.endswith("?"):
        message = message.rstrip(".") + "."
    words = [word for word in given if not word.startswith("-")]
    chosen = words[: 2 if words[:1] == ["data"] and words[1:2] and words[1] in DATA_COMMANDS else 1]
    known = chosen if chosen and chosen[0] in HEADINGS else []
    return f"{message} '{' '.join(['blemish', *known, '--help'])}' lists what is available."


def _learning_parser(command: str, given: list[str], line: list[str]) -> tuple[Callable[..., None], list[str]]:
    """A command of LEARNING with a flag for each setting and option of its model, and the arguments to parse.

    `line` names the model: it is the arguments, or the line that a shell requests completions for. Reading the options
    of a model imports torch, so other commands do not call this.
    """
    from blemish.cli import flags
    from blemish.runs.config import FIT_MODEL, RunConfig

    if command in flags.OF_SEVERAL_RUNS:
        fields = flags.several_runs_flags(command)
        return flags.with_flags(LEARNING[command], fields, {}), flags.one_value_each(given, fields)
    with errors.status("starting"):
        usual = FIT_MODEL if command == "fit" else RunConfig.model_fields["model"].default
        model = flags.model_of(line, usual)
        fields = flags.fit_flags(model) if command == "fit" else flags.run_flags(model)
        options = flags.detector_flags(model)
    flags.refuse_other_models(model, given, fields | options)
    parser = flags.with_flags(LEARNING[command], fields, options)
    return parser, flags.one_value_each(given, fields | options)


def _unparsed() -> None:
    """The placeholder of a command of LEARNING while another runs."""


def build_app(parsers: dict[str, Callable[..., None]]) -> typer.Typer:
    """The application with all commands; `parsers` contains a command of LEARNING if it is to run."""
    app = _group("Finds defects in images of manufactured parts; learns from good images only.", _root)
    data_sets = _group("Checks, unpacks and imports data sets.", _show_help, add_completion=False)
    for name, command in DATA_COMMANDS.items():
        data_sets.command(name, cls=Command)(command)
    for name, heading in HEADINGS.items():
        if name == "data":
            app.add_typer(data_sets, name=name, rich_help_panel=heading)
        elif learns := LEARNING.get(name):
            register = app.command(
                name, cls=Command, help=learns.__doc__, epilog=EPILOGS[name], rich_help_panel=heading
            )
            register(parsers.get(name, _unparsed))
        else:
            app.command(name, cls=Command, rich_help_panel=heading)(COMMANDS[name])
    return app


def _group(text: str, callback: Callable[..., None], *, add_completion: bool = True) -> typer.Typer:
    """A group of commands; `--batch_size` and `--batch-size` are the same. `callback` runs before a command."""
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


def _show_help(context: typer.Context) -> None:
    """Shows the help if no command is given."""
    if context.invoked_subcommand is None:
        context.get_help()


def _root(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only results, warnings and errors.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if quiet:
        show_log(quiet=True)
    _show_help(context)
