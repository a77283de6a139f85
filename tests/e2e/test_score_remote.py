"""`blemish score` of images in an object store and on a web server, both on this machine."""

from __future__ import annotations

import functools
import http.server
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_help import run

from blemish.cli import main
from blemish.data.addresses import Store

FIT = ["--model", "padim", "--size", "32", "--align", "off", "--validation", "0.4"]
SAME = ("sha256", "score", "decision", "p_value")


@pytest.fixture(scope="module")
def place(make_category, tmp_path_factory) -> Path:
    """A model, images, a manifest that also names one that is not there, and their scores in `here`."""
    folder = tmp_path_factory.mktemp("score")
    part = make_category(folder, num_train=8, num_good=3, num_bad=4)
    names = [path.relative_to(folder).as_posix() for path in sorted((part / "test").rglob("*.png"))]
    names.insert(2, "part/test/gone.png")
    (folder / "list.csv").write_text("".join(f"{line}\n" for line in ["path", *names]))
    fit = ["fit", str(part / "train" / "good"), "--out", str(folder / "model"), *FIT]
    for command in (fit, words(folder, str(folder / "list.csv"), str(folder / "here"))):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert not stopped.value.code
    return folder


def words(place: Path, manifest: str, out: str) -> list[str]:
    return ["score", manifest, "--model", str(place / "model"), "--out", out, "--shard-size", "4"]


def check(place: Path, scores: Path, root: str) -> None:
    """The rows are those of the local files, and the file that is not there has its reason."""
    expected, found = (pq.read_table(folder).to_pylist() for folder in (place / "here" / "scores", scores))
    assert [row["path"] for row in found] == [row["path"].replace(str(place), root) for row in expected]
    assert [[row[name] for name in SAME] for row in found] == [[row[name] for name in SAME] for row in expected]
    assert [row["error"] for row in found if row["error"]] == [
        f"{root}/part/test/gone.png: no such file. Check the address."
    ]


class S3:
    """An S3 server of this machine; what it holds outlives a stop."""

    def __init__(self) -> None:
        self.server = self._started(0)
        self.port = self.server.get_host_and_port()[1]

    @staticmethod
    def _started(port: int) -> Any:
        from moto.moto_server.threaded_moto_server import ThreadedMotoServer

        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        server.start()
        return server

    def stop(self) -> None:
        self.server.stop()

    def go_on(self) -> None:
        self.server = self._started(self.port)


@pytest.fixture(scope="module")
def s3(place) -> Iterator[S3]:
    """A server whose bucket has the images and their manifest, and that the environment leads to."""
    pytest.importorskip("moto.moto_server.threaded_moto_server")
    fs = pytest.importorskip("s3fs")
    server = S3()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(logging.getLogger("werkzeug"), "disabled", True)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patched.delenv(name)
        patched.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        patched.setenv("AWS_ACCESS_KEY_ID", "name")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patched.setenv("AWS_MAX_ATTEMPTS", "1")
        patched.setattr(fs.core.S3FileSystem, "retries", 1)
        fs.S3FileSystem.clear_instance_cache()
        fs.S3FileSystem().mkdir("bucket")
        store = Store("s3://bucket/images")
        for path in [place / "list.csv", *(place / "part" / "test").rglob("*.png")]:
            store.write(path.relative_to(place).as_posix(), path.read_bytes())
        yield server
        fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.parametrize("is_remote", [True, False])
def test_images_and_scores_in_a_bucket(s3, place, tmp_path, capsys, is_remote):
    out = "s3://bucket/scores" if is_remote else str(tmp_path / "s")
    command = words(place, "s3://bucket/images/list.csv", out)
    code, text, err = run(command, capsys)
    assert (code, "1 unreadable" in text, "gone.png: no such file." in err) == (0, True, True)
    if is_remote:
        store = Store(out)
        assert store.names("scores") == {"part-000000.parquet", "part-000001.parquet"}
        (tmp_path / "s" / "scores").mkdir(parents=True)
        for name in store.names("scores"):
            (tmp_path / "s" / "scores" / name).write_bytes(store.read(f"scores/{name}"))
    check(place, tmp_path / "s" / "scores", "s3://bucket/images")
    assert "2 shards, 2 of them there before" in run(command, capsys)[1]


@pytest.mark.parametrize(
    ("manifest", "out", "said"),
    [
        ("s3://none/list.csv", "OUT", "s3://none/list.csv: no such file. Check the address."),
        ("s3://bucket/none.csv", "OUT", "s3://bucket/none.csv: no such file. Check the address."),
        ("s3://bucket/images/list.csv", "s3://none/out", "s3://none/out/score.json: no such file. Check the address."),
    ],
)
def test_a_bucket_that_is_not_there_is_one_line(s3, place, tmp_path, capsys, manifest, out, said):
    code, _, err = run(words(place, manifest, out.replace("OUT", str(tmp_path / "s"))), capsys)
    assert (code, err) == (2, f"error {said}\n")


def test_an_outage_stops_and_leaves_no_shard_of_errors(s3, place, tmp_path, capsys):
    (tmp_path / "list.csv").write_bytes((place / "list.csv").read_bytes())
    command = [*words(place, str(tmp_path / "list.csv"), str(tmp_path / "s")), "--root", "s3://bucket/images"]
    s3.stop()
    code, _, err = run(command, capsys)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("error s3://bucket/images/part/test/")
    assert "cannot be used (" in err
    assert "Check the address and the credentials." in err
    assert not (tmp_path / "s" / "scores").exists()
    s3.go_on()
    assert run(command, capsys)[0] == 0
    check(place, tmp_path / "s" / "scores", "s3://bucket/images")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_images_on_a_web_server(place, tmp_path, capsys):
    pytest.importorskip("aiohttp")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(place))) as server:
        threading.Thread(target=server.serve_forever).start()
        root = f"http://127.0.0.1:{server.server_port}"
        code, _, err = run(words(place, f"{root}/list.csv", str(tmp_path / "s")), capsys)
        server.shutdown()
    assert (code, "gone.png: no such file." in err) == (0, True)
    check(place, tmp_path / "s" / "scores", root)
