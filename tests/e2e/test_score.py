"""`blemish score`: what predict gives, in shards that are written once, by one process or several."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_help import run

from blemish.cli import main
from blemish.data.addresses import Store
from blemish.inference.maps import decode_own_map

FIT = ["--model", "padim", "--size", "32", "--align", "off", "--validation", "0.4"]


@pytest.fixture(scope="module")
def place(make_category, tmp_path_factory) -> Path:
    """A model, a folder of images with one that cannot be read, and a manifest of them."""
    folder = tmp_path_factory.mktemp("score")
    part = make_category(folder, num_train=8, num_good=9, num_bad=8)
    with pytest.raises(SystemExit):
        main(["fit", str(part / "train" / "good"), "--out", str(folder / "model"), *FIT])
    (part / "test" / "bad" / "004.png").write_bytes(b"no image")
    names = [str(path.relative_to(folder)) for path in sorted((part / "test").rglob("*.png"))]
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def words(place: Path, out: Path | str, *more: str) -> list[str]:
    manifest = [] if "--manifest" in more else [str(place / "list.txt")]
    return ["score", *manifest, "--model", str(place / "model"), "--out", str(out), "--shard-size", "4", *more]


def rows_of(out: Path) -> list[dict]:
    return pq.read_table(out / "scores").sort_by("path").to_pylist()


def test_the_rows_are_those_of_predict(place, tmp_path, capsys):
    code, text, err = run(words(place, tmp_path / "s", "--maps-above", "threshold"), capsys)
    assert code == 0
    assert "17 images: " in text
    assert "1 unreadable" in text
    assert "5 shards; the scores are in" in text
    assert "the first error: " in err
    predicted = ["predict", str(place / "model"), str(place / "part" / "test"), "--out", str(tmp_path / "p")]
    assert run(predicted, capsys)[0] == 2
    lines = [json.loads(line) for line in (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()]
    expected = {line["path"]: line for line in lines}
    found = rows_of(tmp_path / "s")
    assert len(found) == len(expected) == 17
    for row in found:
        line = expected[row["path"]]
        assert all(row[name] == line.get(name) for name in ("sha256", "score", "decision", "p_value", "error"))
        regions = [[r["x"], r["y"], r["width"], r["height"]] for r in row["regions"] or ()]
        assert regions == [r["box"] for r in line.get("regions") or ()]
        assert (row["map"] is not None) == (row["decision"] == "defect")
        if row["map"]:
            assert decode_own_map((tmp_path / "s" / row["map"]).read_bytes()).max() == pytest.approx(
                max(r["peak"] for r in row["regions"]), rel=1e-3
            )
    names = sorted(path.name for path in (tmp_path / "s" / "scores").iterdir())
    assert names == [f"part-{number:06}.parquet" for number in range(5)]
    first = pq.read_table(tmp_path / "s" / "scores" / names[0])["path"].to_pylist()
    listed = [str(place / name) for name in (place / "list.txt").read_text().splitlines()]
    assert first == listed[:4]


def test_shares_make_up_the_whole_and_nothing_is_computed_twice(place, tmp_path, capsys):
    for index in (1, 0):
        assert run(words(place, tmp_path / "s", "--shard", f"{index}/2"), capsys)[0] == 0
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s" / "scores").iterdir()}
    code, text, _ = run(words(place, tmp_path / "s"), capsys)
    assert (code, "0 images" in text, "5 shards, 5 of them there before" in text) == (0, True, True)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s" / "scores").iterdir()} == times
    assert run(words(place, tmp_path / "whole"), capsys)[0] == 0
    assert rows_of(tmp_path / "s") == rows_of(tmp_path / "whole")


def test_images_and_scores_may_lie_elsewhere(place, tmp_path, capsys):
    store = Store("memory://blemish-score")
    for path in (place / "part" / "test").rglob("*.png"):
        store.write(str(path.relative_to(place)), path.read_bytes())
    store.write("list.csv", b"n,path\n" + b"".join(
        f"0,{line}\n".encode() for line in (place / "list.txt").read_text().splitlines()
    ))  # fmt: skip
    arguments = ["score", "memory://blemish-score/list.csv", "--model", str(place / "model"), "--shard-size", "4"]
    assert run([*arguments, "--out", "memory://blemish-score/out"], capsys)[0] == 0
    assert run(words(place, tmp_path / "s"), capsys)[0] == 0
    assert store.names("out/scores") == {path.name for path in (tmp_path / "s" / "scores").iterdir()}
    (tmp_path / "copy").mkdir()
    for name in store.names("out/scores"):
        (tmp_path / "copy" / name).write_bytes(store.read(f"out/scores/{name}"))
    found = pq.read_table(tmp_path / "copy").sort_by("path").to_pylist()
    for row, local in zip(found, rows_of(tmp_path / "s"), strict=True):
        assert row["path"] == f"memory://blemish-score/{Path(local['path']).relative_to(place)}"
        assert (row["score"], row["sha256"], row["decision"]) == (local["score"], local["sha256"], local["decision"])
    assert next(row for row in found if row["error"])["error"].startswith(
        "memory://blemish-score/part/test/bad/004.png:"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--shard", "2/2"), "shard: '2/2' was given. Give I/N with I from 0 to N - 1"),
        (("--shard", "x"), "shard: 'x' was given."),
        (("--maps-above", "high"), "maps-above: 'high' was given. Give a number, or 'threshold'."),
        (("--maps-above", "nan"), "maps-above: 'nan' was given."),
        (("--out", "nothing://x"), "nothing://x/score.json: cannot be used"),
        (("--backend", "gpu"), "backend gpu: unknown."),
    ],
)
def test_what_is_wrong_is_one_line(more, said, place, tmp_path, capsys):
    code, out, err = run(words(place, tmp_path / "s", *more), capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error {said}")


def test_scores_of_something_else_are_not_mixed_in(place, tmp_path, capsys):
    assert run(words(place, tmp_path / "s", "--shard", "0/9"), capsys)[0] == 0
    shutil.copy(place / "list.txt", place / "other.txt")
    with (place / "other.txt").open("a") as file:
        file.write("more.png\n")
    for more, said in (
        (("--shard-size", "5"), "another shard size"),
        (("--maps-above", "1"), "another maps above"),
    ):
        code, _, err = run(words(place, tmp_path / "s", *more), capsys)
        assert (code, f"holds scores of {said}. Choose another --out." in err) == (2, True)
    other = ["score", str(place / "other.txt"), "--model", str(place / "model"), "--shard-size", "4"]
    code, _, err = run([*other, "--out", str(tmp_path / "s")], capsys)
    assert (code, "holds scores of another manifest." in err) == (2, True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it kills by a signal")
def test_killed_at_random_each_file_is_there_once(place, tmp_path):
    listed = (place / "list.txt").read_text() * 30
    (place / "long.txt").write_text(listed)
    command = [sys.executable, "-m", "blemish", "--quiet", "score", str(place / "long.txt")]
    command += ["--model", str(place / "model"), "--out", str(tmp_path / "s"), "--shard-size", "20"]
    generator, scores, kills = random.Random(0), tmp_path / "s" / "scores", 0
    for _ in range(3):
        before = len(list(scores.glob("part-*"))) if scores.exists() else 0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if scores.exists() and len(list(scores.glob("part-*"))) > before:
                break
            time.sleep(0.01)
        time.sleep(generator.random() / 5)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    assert subprocess.run(command, check=False).returncode == 0
    found = [name for part in sorted(scores.glob("part-*")) for name in pq.read_table(part)["path"].to_pylist()]
    assert found == [str(place / name) for name in listed.splitlines()]
    assert not [path for path in (tmp_path / "s").rglob(".*") if not path.name.endswith(".part")]


def test_memory_does_not_grow_with_the_manifest(place, tmp_path, monkeypatch):
    """Of a stream of images, few are waiting at any time."""
    from blemish.data.manifest import Manifest
    from blemish.inference.inspector import Inspector
    from blemish.runs.score import Job, score
    from blemish.types import Prediction

    waiting = [0, 0]

    class Stub(Inspector):
        def inspect(self, images, *, with_images=False):
            for sample in images:
                waiting[0] += 1
                waiting[1] = max(waiting)
                yield Prediction(sample, 0.0, np.zeros((2, 2), np.float32), "")

    monkeypatch.setattr("blemish.runs.score.to_parquet", lambda rows, _: waiting.__setitem__(0, waiting[0] - len(rows)))
    monkeypatch.setattr(Store, "write", lambda *_: None)
    monkeypatch.setattr("blemish.runs.score.Inspector", Stub)
    (tmp_path / "many.txt").write_text("".join(f"{index}.png\n" for index in range(20_000)))
    job = Job(place / "model", "torch", {}, str(tmp_path / "s"))
    assert score(job, Manifest.read(str(tmp_path / "many.txt")), shard_size=100).num_images == 20_000
    assert waiting[1] < 120
