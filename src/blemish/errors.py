"""The one kind of error that is the user's to mend."""

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
    "openvino": "exporting to OpenVINO and inspecting with it",
    "timm": "networks as backbones",
}
"""Optional extra -> what it is for."""
EXTRAS = {
    "accelerate": "train",
    "jinja2": "train",
    "matplotlib": "train",
    "safetensors": "train",
    "scipy": "train",
    "timm": "timm",
    "torch": "train",
    "onnxruntime": "runtime",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
}
"""Package -> the extra that installs it."""


LONGEST_LINE = 480
"""Characters of a message at most. What is longer is cut in its middle: the place stands first, the advice last."""


class BlemishError(Exception):
    """What was wrong, where (file, field), what is allowed and what to do next, in one line of LONGEST_LINE at most.

    The command line prints the message and exits with 2.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: object, longest: int = LONGEST_LINE) -> str:
    """The text as a line that any terminal and file takes: without line breaks, control characters and lone surrogates.

    What is longer than `longest` characters is cut in its middle.
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
        raise BlemishError(f"{what} {shown(name)}: not a name. Use small letters, digits, and _ - . after the first.")
    if name in taken:
        raise BlemishError(f"{what} {name}: the name is taken. Choose one that is none of {', '.join(sorted(taken))}.")


def number_of(count: int, noun: str) -> str:
    """'1 image', '2 images', '1,000 images': for messages, so that singular and plural are right."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


@contextmanager
def extras() -> Iterator[None]:
    """Has a package of an optional extra that is not installed told in one line, what it is for and how to get it."""
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
    """One line for the first field that pydantic found wrong: its name, the value given, what is allowed."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    is_size = problem["type"].startswith("byte_size")
    allowed = "a number of bytes, such as 2GB" if is_size else problem["msg"].removeprefix("Value error, ")
    return f"{field}: {allowed[0].lower()}{allowed[1:]}; {shown(problem['input'])} was given."


def shown(value: object) -> str:
    """A value as Python writes it, in 80 characters at most; its type's name where it cannot be written."""
    try:
        return one_line(repr(value), 80)
    except (ValueError, RecursionError):  # a number of more than 4300 digits; lists without an end
        return type(value).__name__
