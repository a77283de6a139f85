"""BlemishError, the error that a user can fix, and helpers that phrase messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from pydantic import ValidationError


PURPOSES = {
    "train": "training, evaluation and inspecting with torch",
    "runtime": "inspecting with ONNX Runtime",
    "onnx": "exporting",
    "openvino": "exporting to OpenVINO, inspecting with it, and fast networks",
    "timm": "networks as backbones",
    "ray": "computing on a Ray cluster",
    "sweep": "searching the options of a method",
    "bulk": "scoring the images of a manifest",
    "serve": "the station, `blemish serve`",
    "postgresql": "a station's database on a PostgreSQL server",
}
"""Optional extra of the package -> its purpose."""
EXTRAS = {
    "accelerate": "train",
    "jinja2": "train",
    "matplotlib": "train",
    "safetensors": "train",
    "scipy": "train",
    "timm": "timm",
    "fsspec": "bulk",
    "pyarrow": "bulk",
    "ray": "ray",
    "optuna": "sweep",
    "sklearn": "sweep",
    "torch": "train",
    "onnxruntime": "runtime",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "alembic": "serve",
    "argon2": "serve",
    "fastapi": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "sqlalchemy": "serve",
    "uvicorn": "serve",
    "psycopg": "postgresql",
}
"""Imported package -> the extra that installs it."""


LONGEST_LINE = 480
"""The most characters of a message. A longer one loses its middle, since the file stands first and the advice last."""


class BlemishError(Exception):
    """An error that the user can fix. Its message is one line of at most LONGEST_LINE characters.

    The message names the file or field, says what is wrong, what is allowed, and what to do next. The command line
    prints it and exits with code 2.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: object, longest: int = LONGEST_LINE) -> str:
    """The text as a single printable line of at most `longest` characters.

    Line breaks become spaces. Control characters and lone surrogates become escapes such as \\x1b. The middle of a
    longer text is replaced by " ... ".
    """
    words = re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]+\s*", " ", str(text)).strip()
    printable = "".join(
        character
        if character.isprintable() or category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in words
    )
    if len(printable) <= longest:
        return printable
    tail = longest // 3
    return f"{printable[: longest - tail - 5]} ... {printable[len(printable) - tail :]}"


def check_new_name(what: str, name: str, taken: Iterable[str]) -> None:
    """Raises BlemishError where something of this kind cannot be registered under the name, or one is already."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_.-]*", name):
        raise BlemishError(
            f"{what} {short_repr(name)}: not a name. Use small letters, digits, and _ - . after the first."
        )
    if name in taken:
        raise BlemishError(f"{what} {name}: the name is taken. Choose one that is none of {', '.join(sorted(taken))}.")


def number_of(count: int, noun: str) -> str:
    """A number with its noun, such as '1 image', '2 images' or '1,000 images'."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


@contextmanager
def extras() -> Iterator[None]:
    """A context that turns a missing optional package into a BlemishError with the command to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extra = EXTRAS[package]
        raise BlemishError(
            f"{package} is not installed; it is needed for {PURPOSES[extra]}. Run: pip install 'blemish[{extra}]'"
        ) from None


def first_problem(error: ValidationError) -> str:
    """One line on the first field that pydantic rejected: its name, what is allowed, and the given value."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    is_size = problem["type"].startswith("byte_size")
    allowed = "a number of bytes, such as 2GB" if is_size else problem["msg"].removeprefix("Value error, ")
    return f"{field}: {allowed[0].lower()}{allowed[1:]}; {short_repr(problem['input'])} was given."


def short_repr(value: object) -> str:
    """The repr of a value, cut to 80 characters; the name of its type if it has no repr."""
    try:
        return one_line(repr(value), 80)
    except (ValueError, RecursionError):  # an integer of more than 4300 digits; recursive lists
        return type(value).__name__
