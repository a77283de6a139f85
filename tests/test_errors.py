"""What is told is one line, whatever was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from blemish.errors import LONGEST_LINE, BlemishError, first_problem, one_line, short_repr


@given(st.text(st.characters()), st.integers(20, 600))
def test_a_line_is_one_and_as_long_as_allowed(text, longest):
    line = one_line(text, longest)
    assert len(line) <= longest
    assert len(line.splitlines()) <= 1
    line.encode()  # which lone surrogates cannot
    assert not any(character < " " or character == "\x7f" for character in line)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.png: truncated. Replace it.", "a.png: truncated. Replace it."),
        ("one\n  two\r\n\nthree", "one two three"),
        ("a\tb\x1b[31m\0", "a\\tb\\x1b[31m\\x00"),
        ("odd\udcff.png", "odd\\udcff.png"),
        ("caf\xe9 3:14\u202fPM \U0001f600", "caf\xe9 3:14\u202fPM \U0001f600"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_words_stay_and_what_no_terminal_takes_is_escaped(given, expected):
    assert one_line(given) == expected


def test_what_is_too_long_is_cut_in_its_middle():
    message = str(BlemishError(f"place {'x' * 5000} what to do."))
    assert len(message) == LONGEST_LINE
    assert message.startswith("place xxx")
    assert message.endswith("xxx what to do.")
    assert " ... " in message


def test_values_that_python_cannot_write():
    endless: list[object] = []
    for _ in range(100_000):
        endless = [endless]
    assert short_repr(endless) == "list"
    assert short_repr(10**5000) == "int"
    assert short_repr("a\nb") == "'a\\nb'"
    assert len(short_repr("x" * 1000)) == 80
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(dict[str, int]).validate_python({"epochs": "x" * 1000})
    assert len(first_problem(raised.value)) < 200
