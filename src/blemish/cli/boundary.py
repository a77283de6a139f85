"""The error boundary: every exception becomes one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn
from zipfile import BadZipFile

from rich.text import Text
from typer.exceptions import TyperException

from blemish.cli.terminal import errors
from blemish.errors import BlemishError, extras, one_line

BUG, USER_ERROR, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
"""Exit codes: a bug in blemish, an error that the user can fix, Ctrl-C, and a closed output pipe."""

RESUMABLE = {"train": " with --resume", "benchmark": "", "sweep": "", "predict": "", "score": ""}
"""Command that can be continued after Ctrl-C -> the option to add."""

ADVICE = {
    errno.ENOSPC: "Free some space, or choose another place",
    errno.EDQUOT: "Free some space, or choose another place",
    errno.EMFILE: "Allow more open files ('ulimit -n')",
    errno.ENAMETOOLONG: "Use a shorter name",
    errno.EIO: "Check the disk",
}
"""Error number of the system -> advice; for all others the path and its permissions are to be checked."""

OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate", "insufficient memory", "bad_alloc")
"""Words in the messages of libraries that raise another error than MemoryError."""


@contextmanager
def boundary(command: str, usage_error: Callable[[TyperException], str]) -> Iterator[None]:
    """A context that prints any exception of a command as one line, and exits with its code.

    `usage_error` gives the line for arguments that the parser rejects.
    """
    try:
        with extras():
            yield
    except BlemishError as error:
        fail(str(error))
    except TyperException as error:
        fail(usage_error(error))
    except KeyboardInterrupt:
        interrupted(command)
    except BrokenPipeError:
        _stop_writing()
        sys.exit(BROKEN_PIPE)
    except Exception as error:  # not a BlemishError: of the system, a library, or a bug
        known = _known(error)
        fail(known or _bug(error), USER_ERROR if known else BUG)


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Prints one line on standard error, and exits with the code."""
    errors.print(Text.assemble(("error ", "bold red"), one_line(message)), soft_wrap=True)
    sys.exit(code)


def interrupted(command: str) -> NoReturn:
    """Prints one line that says whether the command can be continued, and exits."""
    how = f" The same command{RESUMABLE[command]} continues from here." if command in RESUMABLE else ""
    errors.print(f"stopped.{how}", soft_wrap=True)
    sys.exit(INTERRUPTED)


def _known(error: Exception) -> str | None:
    """The line for an exception that a file, the system or an argument causes; None for a bug in blemish."""
    said = one_line(error, 250)
    if isinstance(error, MemoryError) or any(words in said.lower() for words in OUT_OF_MEMORY):
        return f"out of memory ({said or 'no more was given'}). Use smaller images, a smaller --size or --batch-size."
    for kinds, message_of in KINDS:
        if isinstance(error, kinds):
            return message_of(error, said)
    is_path = isinstance(error, ValueError) and "null" in said and "embedded" in said
    return "a path contains a NUL character. Correct it." if is_path else None


def _system(error: Exception, said: str) -> str:
    assert isinstance(error, OSError)
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    advice = ADVICE.get(error.errno or 0, "Check the path and its permissions")
    return f"{place}{error.strerror or said or type(error).__name__}. {advice}."


def _nested(_: Exception, __: str) -> str:
    return "the input is nested too deeply. Check the files and folders."


def _damaged(error: Exception, said: str) -> str:
    return f"a file is damaged or of another kind ({type(error).__name__}: {said}). Create or copy it again."


KINDS: tuple[tuple[tuple[type[Exception], ...], Callable[[Exception, str], str]], ...] = (
    ((OSError,), _system),
    ((RecursionError,), _nested),
    ((BadZipFile, zlib.error, EOFError, UnicodeError), _damaged),
)
"""(exception classes, function that gives the line) for exceptions that files and the system cause."""


def _bug(error: Exception) -> str:
    """The line for a bug, with the file that contains the traceback."""
    place = ""
    with suppress(OSError), tempfile.NamedTemporaryFile("w", prefix="blemish-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode())
        place = f" The traceback is in {file.name}."
    what = f"unexpected {type(error).__name__}: {one_line(error, 200)}"
    return f"{what}. This is a bug in blemish.{place} Report it, please."


def _stop_writing() -> None:
    """Redirects standard output to the null device, so that Python can flush it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
