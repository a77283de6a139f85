"""The size of a detector's input: the side of a square, or the text HEIGHTxWIDTH of a rectangle, in pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic_core import CoreSchema, core_schema

from blemish.types import Size

AnySize = int | str
"""As 256, or 128x704; never text for a square."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What pydantic checks a size by: the range of both sides. A field that is an int takes squares alone."""

    ge: int = 32
    le: int = 1024
    multiple_of: int = 16

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        only_square = str not in get_args(source)
        return core_schema.no_info_plain_validator_function(lambda given: self._checked(given, only_square))

    def _checked(self, given: Any, only_square: bool) -> AnySize:
        sides = _sides(given)
        found = named(sides) if sides and all(map(self._allows, sides)) else None
        if found is None or (only_square and isinstance(found, str)):
            shape = "; the input is square" if only_square else ", or 128x704 for height x width"
            allowed = f"multiples of {self.multiple_of} from {self.ge} to {self.le}"
            raise ValueError(f"sides should be {allowed}, such as 256{shape}")
        return found

    def _allows(self, side: int) -> bool:
        return self.ge <= side <= self.le and side % self.multiple_of == 0


InputSize = Annotated[AnySize, Sides()]


def takes_rectangles(annotation: Any) -> bool:
    """Whether a size of this annotated type may be a rectangle."""
    return bool(annotation == InputSize)


def height_and_width(size: AnySize) -> Size:
    """(height, width) of an input of this size."""
    sides = _sides(size)
    assert sides is not None
    return sides


def named(size: Size) -> AnySize:
    """The input size with this (height, width)."""
    height, width = size
    return height if height == width else f"{height}x{width}"


def _sides(given: Any) -> Size | None:
    """The (height, width) that a number, a text, or a pair of numbers gives; None where it is none of these."""
    pair = given if isinstance(given, tuple | list) else (given,)
    parts = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", "x".join(str(side).strip() for side in pair).lower())
    return (int(parts[1]), int(parts[2] or parts[1])) if parts else None
