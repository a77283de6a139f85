"""Reads the texts of a language. English is complete; a test compares the others with it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LANGUAGES = {"en": "English", "de": "Deutsch"}


@dataclass(frozen=True)
class Texts:
    """The texts of one language."""

    language: str
    words: dict[str, str]

    def say(self, key: str, **values: object) -> str:
        """The text of a key, with values in its places."""
        return self.words[key].format(**values)


@lru_cache
def texts_of(language: str) -> Texts:
    """The texts of a language; English where there are none."""
    known = language if language in LANGUAGES else "en"
    return Texts(known, tomllib.loads((Path(__file__).parent / f"{known}.toml").read_text(encoding="utf-8")))


def preferred(accepted: str) -> str:
    """The first language of an Accept-Language header that there are texts for."""
    for part in accepted.split(","):
        code = part.partition(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return code
    return "en"
