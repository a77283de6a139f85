"""The one kind of error that is the user's to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class BlemishError(Exception):
    """What was wrong, where (file, field), what is allowed and what to do next, in one line.

    The command line prints the message and exits with 2. Any other exception is a bug in blemish.
    """


def first_problem(error: ValidationError) -> str:
    """One line for the first field that pydantic found wrong: its name, the value given, what is allowed."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    allowed = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {allowed[0].lower()}{allowed[1:]}; {problem['input']!r} was given."
