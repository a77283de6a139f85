"""Draws the rooms of blemish and what they import, from the code's own imports: python docs/rooms.py

`draw` gives the diagram of docs/architecture.md, which a test compares with it; `arrows` and `circles` are what the
order of the rooms is tested by.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "blemish"
ROOMS = (
    "imaging",
    "data",
    "features",
    "training",
    "detectors",
    "calibration",
    "model",
    "inference",
    "export",
    "metrics",
    "evaluation",
    "reporting",
    "runs",
    "station",
    "library",
    "cli",
)
"""From the first to the last: a room imports itself and those before it, and the modules beside the rooms."""


def imports(path: Path) -> Iterator[str]:
    """The modules of blemish that a file imports, deferred imports counted, those for type checkers alone not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "blemish":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "blemish")


def modules() -> dict[str, set[str]]:
    """Module -> the modules of blemish that it imports."""
    paths = {_name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
    return {
        name: {found for one in imports(path) if (found := _module_among(paths, one)) and found != name}
        for name, path in paths.items()
    }


def arrows() -> dict[str, set[str]]:
    """Room -> the other rooms that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, imported in modules().items():
        for other in imported:
            if (room := _room_of(name)) in ROOMS and (target := _room_of(other)) in ROOMS and room != target:
                found[room].add(target)
    return dict(found)


def circles() -> list[list[str]]:
    """The modules that import each other around a circle, each circle once."""
    graph, found, done = modules(), [], set()

    def walk(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append(sorted(trail[trail.index(name) :]))
        elif name not in done:
            for other in sorted(graph[name]):
                walk(other, [*trail, name])
            done.add(name)

    for name in graph:
        walk(name, [])
    return found


def draw() -> str:
    """The rooms as a Mermaid diagram: an arrow from each room to the nearest ones that it stands on.

    An arrow that follows from others (a room imports what one that it imports does, too) is left out.
    """
    every = arrows()
    reached: dict[str, set[str]] = {}
    for room in ROOMS:
        below = every.get(room, set())
        reached[room] = below | {far for near in below for far in reached.get(near, set())}
    lines = ["```mermaid", "flowchart TD"]
    for room in reversed(ROOMS):
        below = every.get(room, set())
        direct = {one for one in below if not any(one in reached[other] for other in below)}
        lines += [f"    {room} --> {other}" for other in sorted(direct, key=ROOMS.index, reverse=True)]
    return "\n".join([*lines, "```"])


def _name_of(path: Path) -> str:
    return ".".join(("blemish", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def _module_among(paths: dict[str, Path], name: str) -> str | None:
    """The module that an imported name is, or that holds it."""
    return name if name in paths else name.rpartition(".")[0] if name.rpartition(".")[0] in paths else None


def _room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


if __name__ == "__main__":
    print(draw())
