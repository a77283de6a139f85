"""What is behind an answer: keys that belong to one image, and previews that are drawn after it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256

from station_help import picture

from blemish.inference.inspector import Inspector
from blemish.inference.previews import encode_preview
from blemish.station import recording

PNG = {"content-type": "image/png"}


def test_a_key_belongs_to_one_image(client, workspace):
    headers, before = PNG | {"Idempotency-Key": "abc"}, set(workspace.blobs.names())
    first = client.post("/v1/products/1/inspect", content=picture(501), headers=headers).json()
    client.get(first["links"]["map"])
    after = set(workspace.blobs.names())
    assert len(after - before) == 2, "the image and its preview"
    answer = client.post("/v1/products/1/inspect", content=picture(502), headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (422, "The idempotency key was used for another image.")
    assert set(workspace.blobs.names()) == after, "nothing is left of the other image"


def test_a_key_belongs_to_an_image_that_is_still_on_its_way(client, workspace, monkeypatch):
    before = set(workspace.blobs.names())
    waits, goes_on, inspect = threading.Event(), threading.Event(), Inspector.inspect

    def slow(*given):
        waits.set()
        assert goes_on.wait(60)
        return inspect(*given)

    monkeypatch.setattr(Inspector, "inspect", slow)
    with ThreadPoolExecutor() as pool:
        ask = partial(client.post, "/v1/products/1/inspect", headers=PNG | {"Idempotency-Key": "abc"})
        first = pool.submit(ask, content=picture(501))
        assert waits.wait(60)
        assert ask(content=picture(502)).status_code == 422
        again = pool.submit(ask, content=picture(501))
        goes_on.set()
        assert first.result().json()["id"] == again.result().json()["id"]
    assert {sha256(picture(501)).hexdigest()} == {
        one for one in set(workspace.blobs.names()) - before if one == sha256(workspace.blobs.read(one)).hexdigest()
    }


def test_a_map_is_there_for_who_asks_at_once(client, monkeypatch):
    def slow(*given):
        time.sleep(0.3)
        return encode_preview(*given)

    monkeypatch.setattr(recording, "encode_preview", slow)
    found = client.post("/v1/products/1/inspect", content=picture(501), headers=PNG).json()
    assert client.get(found["links"]["map"]).status_code == 200


def test_a_result_without_its_preview_still_shows_its_image(client, monkeypatch):
    monkeypatch.setattr(recording, "encode_preview", lambda *_: 1 / 0)
    found = client.post("/v1/products/1/inspect", content=picture(501), headers=PNG).json()
    assert client.get(found["links"]["map"]).status_code == 404
    assert client.get(found["links"]["picture"]).status_code == 200
    assert client.get(found["links"]["image"]).content == picture(501)
