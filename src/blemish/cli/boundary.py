"""Where everything that goes wrong ends: one line on standard error and an exit code, never a traceback."""

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

BUG, REFUSED, INTERRUPTED, UNHEARD = 1, 2, 130, 141
"""Exit codes: of a fault in blemish, of what is the user's to mend, and, as shells have them, after Ctrl-C and where
nobody reads the output any more."""

GOES_ON = {"train": " with --resume", "predict": ""}
"""Command that can be stopped -> what is to be added for it to go on."""

ADVICE = {
    errno.ENOSPC: "Free some space, or choose another place",
    errno.EDQUOT: "Free some space, or choose another place",
    errno.EMFILE: "Allow more open files ('ulimit -n')",
    errno.ENAMETOOLONG: "Use a shorter name",
    errno.EIO: "Check the disk",
}
"""What to do where the system refuses; elsewhere the path or its permissions are to be checked."""

OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate", "insufficient memory", "bad_alloc")
"""What libraries that raise no MemoryError say."""


@contextmanager
def boundary(command: str, said: Callable[[TyperException], str]) -> Iterator[None]:
    """Has whatever the body of a command raises told in one line, and ends the program with its exit code.

    `said` is the line for arguments that the parser refuses.
    """
    try:
        with extras():
            yield
    except BlemishError as error:
        fail(str(error))
    except TyperException as error:
        fail(said(error))
    except KeyboardInterrupt:
        interrupted(command)
    except BrokenPipeError:
        _stop_writing()
        sys.exit(UNHEARD)
    except Exception as error:  # what blemish checks is a BlemishError; this is the rest of the world
        known = _known(error)
        fail(known or _bug(error), REFUSED if known else BUG)


def fail(message: str, code: int = REFUSED) -> NoReturn:
    """One line on standard error, and the exit code."""
    errors.print(Text.assemble(("error ", "bold red"), one_line(message)), soft_wrap=True)
    sys.exit(code)


def interrupted(command: str) -> NoReturn:
    """One line that says whether what was begun can go on."""
    how = f" The same command{GOES_ON[command]} goes on from here." if command in GOES_ON else ""
    errors.print(f"stopped.{how}", soft_wrap=True)
    sys.exit(INTERRUPTED)


def _known(error: Exception) -> str | None:
    """The line for an exception that a file, the system or an argument explains; None for a fault in blemish."""
    said = one_line(error, 250)
    if isinstance(error, MemoryError) or any(words in said.lower() for words in OUT_OF_MEMORY):
        return f"out of memory ({said or 'no more was given'}). Use smaller images, a smaller --size or fewer at once."
    for kinds, tell in KINDS:
        if isinstance(error, kinds):
            return tell(error, said)
    is_path = isinstance(error, ValueError) and "null" in said and "embedded" in said
    return "a path holds a NUL character, which none can. Correct it." if is_path else None


def _system(error: Exception, said: str) -> str:
    assert isinstance(error, OSError)
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    advice = ADVICE.get(error.errno or 0, "Check the path and its permissions")
    return f"{place}{error.strerror or said or type(error).__name__}. {advice}."


def _nested(_: Exception, __: str) -> str:
    return "something that was given is nested too deeply. Check the files and folders."


def _damaged(error: Exception, said: str) -> str:
    return f"a file is damaged or not what it should be ({type(error).__name__}: {said}). Make or copy it anew."


KINDS: tuple[tuple[tuple[type[Exception], ...], Callable[[Exception, str], str]], ...] = (
    ((OSError,), _system),
    ((RecursionError,), _nested),
    ((BadZipFile, zlib.error, EOFError, UnicodeError), _damaged),
)
"""Kinds of exceptions of Python's own, and what is said of one."""


def _bug(error: Exception) -> str:
    """The line for what should not have been, with the file that tells where it was."""
    place = ""
    with suppress(OSError), tempfile.NamedTemporaryFile("w", prefix="blemish-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode())
        place = f" Where it was is in {file.name}."
    what = f"unexpected {type(error).__name__}: {one_line(error, 200)}"
    return f"{what}. This is a fault in blemish.{place} Report it, please."


def _stop_writing() -> None:
    """Has what is left to be written go nowhere, so that Python does not complain of it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
