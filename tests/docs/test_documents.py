"""The documents are true: their links lead somewhere, their code runs, and the README's commands exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# (\w+\.py)\n")
LONGEST_README = 150
RECORDS = {"decisions", "log"}
"""Folders of documents that say what was so on their day."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", path.read_text())


def anchor(heading: str) -> str:
    """The address of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(path: Path) -> set[str]:
    return {anchor(line.lstrip("#").strip()) for line in prose(path).splitlines() if line.startswith("#")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_what_is_there(document: Path):
    links = [link for link in LINK.findall(prose(document)) if not re.match(r"\w+:", link)]
    wrong = []
    for link in links:
        file, _, part = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists() or (part and part not in headings(target)):
            wrong.append(link)
    assert wrong == []


def test_every_document_is_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        document = ahead.pop()
        reached.add(document)
        files = [link.partition("#")[0] for link in LINK.findall(prose(document)) if not re.match(r"\w+:", link)]
        found = {(document.parent / file).resolve() for file in files if file.endswith(".md")}
        ahead += sorted(found - reached)
    assert [name_of(path) for path in DOCUMENTS if path not in reached] == []


def test_every_image_of_the_documents_is_used():
    used = {(path.parent / link).resolve() for path in DOCUMENTS for link in LINK.findall(path.read_text())}
    assert [path.name for path in sorted((ROOT / "docs" / "images").iterdir()) if path not in used] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < LONGEST_README


def commands(path: Path) -> list[list[str]]:
    """The words of each command line of blemish that a document shows, by itself or within a sentence."""
    text = path.read_text()
    blocks = "".join(code for language, code in FENCE.findall(text) if language == "sh")
    shown = re.findall(r"^ {4}(?:blemish|python train.py) .*|(?<=`)blemish [^`]*(?=`)", text, re.MULTILINE)
    shown += blocks.splitlines()
    lines = [line.replace("python train.py", "blemish train").partition("#")[0].partition("|")[0] for line in shown]
    return [shlex.split(line)[1:] for line in lines]


def help_of(words: list[str]) -> list[str]:
    """What has to be typed for the help on the options of a command line."""
    length = 2 if words[0] == "data" else 1
    chosen = words.index("--model") if "--model" in words else len(words)
    return [*words[:length], "--help", *words[chosen : chosen + 2]]


def long_options(words: Iterable[str]) -> set[str]:
    return {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}


@pytest.mark.slow
def test_documents_name_only_commands_and_options_that_there_are():
    known: dict[tuple[str, ...], set[str]] = {}
    wrong = []
    for document in DOCUMENTS:
        if document.parent.name in RECORDS:
            continue
        for words in commands(document):
            asked, typed = long_options(words) - {"--help", "--version"}, help_of(words)
            if words[0].startswith("-"):
                continue
            if (key := tuple(typed)) not in known:
                shown = run([sys.executable, "-m", "blemish", *typed], ROOT).stdout
                known[key] = long_options(re.findall(r"--[\w-]+", shown.replace("--[no-]", "--")))
            wrong += [f"{name_of(document)}: {words[0]} {option}" for option in sorted(asked - known[key])]
    assert wrong == []


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The finished command; it has failed where its exit code is not 0."""
    search = os.pathsep.join([str(ROOT / "src"), str(folder)])
    environment = {**os.environ, "PYTHONPATH": search, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done


def run_document(path: Path, folder: Path) -> None:
    """Runs a document's blocks in their order.

    A Python block that begins with the comment of a file's name is written to it; a block of `sh` is command lines of
    blemish; all other Python blocks are one program, in which the commands have their places.
    """
    program = ["import subprocess, sys"]
    for language, code in FENCE.findall(path.read_text()):
        if language == "python" and (named := FILE_NAME.match(code)):
            (folder / named[1]).write_text(code)
        elif language == "python":
            program.append(code)
        elif language == "sh":
            asked = [shlex.split(line, comments=True) for line in code.splitlines()]
            assert all(words[0] == "blemish" for words in asked if words)
            program += [
                f"subprocess.run([sys.executable, '-m', *{words!r}], check=True, capture_output=True)"
                for words in asked
                if words
            ]
    (folder / "document.py").write_text("\n".join(program))
    run([sys.executable, "document.py"], folder)


@pytest.mark.slow
def test_the_code_of_write_a_detector_runs(tmp_path: Path):
    run_document(ROOT / "docs" / "write-a-detector.md", tmp_path)
