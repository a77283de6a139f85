"""From an empty workspace to inspections, reviews and learning, by the interface for programs."""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np
import pytest
from station_help import SETTINGS, as_files, picture, teach, wait_for

from blemish.model.artifact import load
from blemish.station import watching
from blemish.station.tables import Model

PNG = {"content-type": "image/png"}


@pytest.mark.slow
def test_from_nothing_to_an_inspection(empty):
    product = empty.post("/v1/products", json={"name": "gear"}).json()
    assert product["state"] == "empty"
    good = [picture(seed) for seed in range(10)]
    added = empty.post(f"/v1/products/{product['id']}/images", files=as_files(good)).json()
    assert added["added"] == 10
    settings = {"model": "padim", "size": 64, "options": {"backbone": "gabor"}}
    started = empty.post(f"/v1/products/{product['id']}/teach", json=settings)
    assert started.status_code == 202
    job = f"/v1/jobs/{started.json()['id']}"
    wait_for(lambda: empty.get(job).json()["state"] != "running")
    done = empty.get(job).json()
    assert (done["state"], done["error"]) == ("done", None)
    found = empty.post(f"/v1/products/{product['id']}/inspect", content=picture(99), headers=PNG)
    assert found.status_code == 200
    assert found.json()["decision"] in ("good", "review", "defect")
    assert empty.get(f"/v1/products/{product['id']}").json()["inspected_today"] == 1


def test_a_defect_is_found_with_its_region_and_pictures(client):
    found = client.post("/v1/products/1/inspect", content=picture(500, is_defect=True), headers=PNG).json()
    assert found["decision"] == "defect"
    assert found["score"] > found["defect_threshold"] >= found["review_threshold"]
    assert found["regions"][0]["area"] > 20
    for kind in ("image", "picture", "map", "overlay"):
        answer = client.get(found["links"][kind])
        assert (answer.status_code, answer.headers["content-type"][:6]) == (200, "image/")
    assert client.get(found["links"]["self"]).json() == found


def test_the_score_is_that_of_the_library(client, workspace):
    from blemish import load

    content = picture(501)
    found = client.post("/v1/products/1/inspect", content=content, headers=PNG).json()
    folder = next((workspace.root / "models").iterdir())
    assert found["score"] == load(folder).predict(content).score


def test_a_repeated_request_counts_once(client):
    headers = PNG | {"Idempotency-Key": "abc"}
    first, second = (client.post("/v1/products/1/inspect", content=picture(1), headers=headers).json() for _ in "12")
    assert (first["id"], first["is_repeated"], second["is_repeated"]) == (second["id"], False, True)
    assert len(client.get("/v1/products/1/inspections").json()) == 1
    files = as_files([picture(3), b"no image", picture(4)])
    many = [
        client.post("/v1/products/1/inspect-many", files=files, headers={"Idempotency-Key": "many"}).json()
        for files in (files, as_files([picture(3), b"no image", picture(4)]))
    ]
    assert [one.get("id") for one in many[0]] == [one.get("id") for one in many[1]]
    assert "not an image" in many[0][1]["error"]


def test_what_is_no_image_is_refused(client):
    answer = client.post("/v1/products/1/inspect?name=../../etc/passwd", content=b"GIF89a", headers=PNG)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("passwd: ")
    assert client.post("/v1/products/1/inspect", content=b"", headers=PNG).status_code == 422
    assert client.post("/v1/products/7/inspect", content=picture(1), headers=PNG).status_code == 404


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "a/../../b.png", "..\\a.png", "C:\\a.png"])
def test_an_archive_that_climbs_out_is_refused(empty, name):
    empty.post("/v1/products", json={"name": "gear"})
    assert send_zip(empty, {name: picture(1)}).status_code == 422
    assert empty.get("/v1/products/1/images").json() == []


def test_an_archive_adds_its_images_by_name_alone(empty):
    empty.post("/v1/products", json={"name": "gear"})
    answer = send_zip(empty, {"a/b/one.png": picture(1), "two.png": picture(2), "three.png": b"no", "read.me": b"x"})
    assert (answer.json()["added"], len(answer.json()["refused"])) == (2, 1)
    assert [one["name"] for one in empty.get("/v1/products/1/images").json()] == ["one.png", "two.png"]
    again = send_zip(empty, {"a/b/one.png": picture(1)})
    assert (again.json()["added"], again.json()["known"]) == (0, 1)


def test_a_bomb_is_not_unpacked(empty, monkeypatch):
    empty.post("/v1/products", json={"name": "gear"})
    limits = empty.app.state.station.settings.limits
    object.__setattr__(limits, "archive_bytes", 1 << 20)
    answer = send_zip(empty, {f"{index}.png": bytes(300_000) for index in range(9)}, zipfile.ZIP_DEFLATED)
    assert answer.status_code == 422
    assert "too large" in answer.json()["detail"]


def send_zip(client, entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    headers = {"content-type": "application/zip"}
    return client.post("/v1/products/1/images", content=file.getvalue(), headers=headers)


def test_decisions_are_versions_and_can_be_put_back(client):
    before = client.get("/v1/models/1").json()["decision"]
    given = {"review_threshold": 1e-9, "defect_threshold": 1e9, "note": "all to review"}
    after = client.post("/v1/models/1/decisions", json=given).json()
    assert (after["number"], after["is_active"], after["created_by"]) == (2, True, "local")
    found = client.post("/v1/products/1/inspect", content=picture(5), headers=PNG).json()
    assert found["decision"] == "review"
    client.post(f"/v1/decisions/{before['id']}/apply")
    assert client.get("/v1/models/1").json()["decision"] == before
    wrong = client.post("/v1/models/1/decisions", json={"review_threshold": 2, "defect_threshold": 1})
    assert wrong.status_code == 422


def test_a_repeated_decision_makes_no_other_version(client):
    def decide(review: float, key: str = "") -> tuple[int, int]:
        given = {"review_threshold": review, "defect_threshold": 9}
        headers = {"Idempotency-Key": key} if key else {}
        answer = client.post("/v1/models/1/decisions", json=given, headers=headers)
        return answer.status_code, answer.json().get("number")

    assert (decide(1), decide(1), decide(2)) == ((201, 2), (200, 2), (201, 3))
    assert (decide(1, "a"), decide(2, "b"), decide(1, "a")) == ((201, 4), (201, 5), (200, 4))
    assert client.get("/v1/models/1").json()["decision"]["number"] == 5, "the repeated request changes nothing"
    assert decide(7, "a")[0] == 422
    entries = client.get("/v1/admin/audit").json()
    assert [one["what"] for one in entries].count("decision applied") == 4


@pytest.mark.slow
def test_reviews_teach_the_model_after_a_comparison(client, workspace):
    given = {"review_threshold": 1e-9, "defect_threshold": 1e9}
    client.post("/v1/models/1/decisions", json=given)
    for seed in range(700, 703):
        client.post("/v1/products/1/inspect", content=picture(seed), headers=PNG)
    for _ in range(3):
        queue = client.post("/v1/products/1/review-queue").json()
        answer = client.post(f"/v1/inspections/{queue['next']['id']}/review", json={"verdict": "good"})
        assert answer.status_code == 201
    assert client.post("/v1/products/1/review-queue").json() == {"waiting": 0, "learnable": 3, "next": None}
    assert client.post("/v1/products/1/reviews/undo").json()["undone_at"]
    assert client.post("/v1/products/1/review-queue").json()["learnable"] == 2
    started = client.post("/v1/products/1/learn").json()
    wait_for(lambda: client.get(f"/v1/jobs/{started['id']}").json()["state"] != "running")
    done = client.get(f"/v1/jobs/{started['id']}").json()
    assert (done["state"], done["error"]) == ("done", None)
    candidate = client.get(f"/v1/models/{done['model']}").json()
    assert (candidate["state"], candidate["is_active"], candidate["parent"]) == ("candidate", False, 1)
    compared = client.get(f"/v1/models/1/compare/{candidate['id']}").json()
    assert (compared["num_good"], compared["num_defective"]) == (7, 4)
    accepted = client.post(f"/v1/models/{candidate['id']}/accept").json()
    assert accepted["is_active"]
    assert client.get("/v1/products/1").json()["num_good"] == 26
    assert client.post("/v1/models/1/activate").json()["is_active"]


@pytest.mark.slow
def test_a_version_is_downloaded_and_brought_in_again(client, workspace):
    content = client.get("/v1/models/1/file").content
    assert not list(workspace.root.glob(".download-*"))
    made = client.post("/v1/products", json={"name": "other"}).json()
    zipped = {"content-type": "application/zip"}
    started = client.post(f"/v1/products/{made['id']}/models?name=gear.zip", content=content, headers=zipped)
    assert started.status_code == 202
    job = f"/v1/jobs/{started.json()['id']}"
    wait_for(lambda: client.get(job).json()["state"] != "running")
    assert client.get(job).json()["error"] is None
    first, second = (
        client.post(f"/v1/products/{number}/inspect", content=picture(7), headers=PNG).json()
        for number in (1, made["id"])
    )
    assert first["score"] == second["score"]
    assert client.get("/v1/models/2").json()["lineage"]["settings"] == {"imported": "gear.zip"}


@pytest.mark.parametrize("name", ["../model.json", "/model.json", "a/b/c", "model.json"])
def test_what_is_no_model_is_not_brought_in(client, workspace, name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"{}")
    zipped = {"content-type": "application/zip"}
    answer = client.post("/v1/products/1/models", content=file.getvalue(), headers=zipped)
    assert answer.status_code == 422
    assert "/" not in answer.json()["detail"].partition("(")[0].replace("the file/", "")
    assert not list(workspace.root.glob(".import-*"))


def test_two_reviewers_do_not_see_the_same(client, workspace):
    from blemish.station.reviewing import TakenError, answer, next_for
    from blemish.station.tables import Inspection

    for seed in (800, 801):
        client.post("/v1/products/1/inspect", content=picture(seed, is_defect=True), headers=PNG)
    with workspace.store.writing() as session:
        first, second = next_for(session, 1, "ann"), next_for(session, 1, "bob")
        assert first.id != second.id
        assert next_for(session, 1, "eve") is None
        with pytest.raises(TakenError):
            answer(session, session.get_one(Inspection, first.id), "good", "", "bob")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"size": "96x721"}, "size: sides should be multiples of 16 from 32 to 1024, such as 256, or 128x704"),
        ({"size": 8}, "size: sides should be multiples of 16"),
        ({"time_per_image": "soon"}, "time_per_image: should be a time of up to an hour, such as 50ms or 0.2s"),
        ({"time_per_image": "50ms", "size": "96x720"}, "time_per_image: chooses the size, which is given as 96x720."),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(client, settings, problem):
    answer = client.post("/v1/products/1/teach", json=settings)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(problem)
    assert "\n" not in answer.json()["detail"]


def test_a_product_is_taught_at_a_rectangular_size(workspace):
    done = teach(workspace, 1, settings=SETTINGS | {"size": "48x80"})
    assert done.error is None
    with workspace.store.reading() as session:
        folder = workspace.model_folder(session.get_one(Model, done.model_id))
    assert load(folder).preprocess.size == (48, 80)


@pytest.mark.slow
def test_a_job_that_is_cancelled_leaves_nothing(client, workspace):
    started = client.post("/v1/products/1/teach", json={}).json()
    assert client.post("/v1/products/1/teach", json={}).status_code == 422
    assert client.post(f"/v1/jobs/{started['id']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{started['id']}/cancel").status_code == 409
    wait_for(lambda: not client.app.state.station.jobs._processes)
    assert [path.name for path in (workspace.root / "models").iterdir()] == ["job-1"]
    assert len(client.get("/v1/products/1/models").json()) == 1


def test_a_job_says_why_it_failed(empty):
    empty.post("/v1/products", json={"name": "gear"})
    done = teach(empty.app.state.station.workspace, 1)
    assert (done.state, done.error) == ("failed", "0 good images; teaching needs at least 5. Add more.")


def test_findings_on_the_images(empty):
    empty.post("/v1/products", json={"name": "gear"})
    contents = [picture(seed) for seed in range(12)] + [picture(50, side=96)]
    empty.post("/v1/products/1/images", files=as_files(contents))
    empty.post("/v1/products/1/images?is_defect=true", content=picture(60), headers=PNG)
    kinds = {one["kind"]: one for one in empty.get("/v1/products/1/findings").json()}
    assert set(kinds) == {"few", "sizes"}
    assert kinds["sizes"]["images"] == [13]


def test_a_region_of_interest_is_checked_and_kept(client):
    roi = {"size": [64, 64], "polygons": [[[0, 0], [63, 0], [63, 63], [0, 63]]]}
    assert client.put("/v1/products/1/roi", json=roi).status_code == 200
    tiny = roi | {"polygons": [[[0, 0], [1, 0], [1, 1]]]}
    assert client.put("/v1/products/1/roi", json=tiny).status_code == 422
    assert client.delete("/v1/products/1/roi").status_code == 204


def test_a_full_queue_says_when_to_come_again(client, monkeypatch):
    from blemish.station import inspecting

    monkeypatch.setattr(inspecting.Line, "waiting", 10_000)
    answer = client.post("/v1/products/1/inspect", content=picture(1), headers=PNG)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_an_answer_says_where_its_time_went(client):
    answer = client.post("/v1/products/1/inspect", content=picture(1), headers=PNG)
    parts = {
        name: float(value)
        for name, _, value in (one.partition(";dur=") for one in answer.headers["server-timing"].split(", "))
    }
    assert list(parts) == ["receive", "decode", "queue", "compute", "record", "own"]
    assert parts["own"] >= parts["record"] > 0
    assert min(parts.values()) >= 0


def test_a_region_may_leave_a_part_out(client):
    roi = {"size": [64, 64], "outside": [[[0, 0], [20, 0], [20, 20]]]}
    assert client.put("/v1/products/1/roi", json=roi).json() == {
        "size": [64, 64],
        "polygons": [],
        "outside": [[[0.0, 0.0], [20.0, 0.0], [20.0, 20.0]]],
    }
    assert client.put("/v1/products/1/roi", json={"size": [64, 64]}).status_code == 422


def test_metrics_and_health(client):
    client.post("/v1/products/1/inspect", content=picture(1), headers=PNG)
    text = client.get("/metrics").text
    assert 'blemish_inspection_seconds_count{product="1"} 1.0' in text
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "keeps_images": True}


def test_the_open_inference_protocol_gives_the_same(client):
    import base64

    content = picture(500, is_defect=True)
    expected = client.post("/v1/products/1/inspect", content=content, headers=PNG).json()
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    tensors = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": pixels.reshape(-1).tolist()},
    ]
    for tensor in tensors:
        answer = client.post("/v2/models/gear/infer", json={"inputs": [tensor]}).json()
        outputs = {one["name"]: one["data"][0] for one in answer["outputs"]}
        assert (outputs["score"], outputs["decision"]) == (expected["score"], "defect")
        assert outputs["id"] > expected["id"]
    assert client.get("/v2/models/1").json()["inputs"][0]["name"] == "image"
    assert client.get("/v2/models/gear/ready").json() == {"name": "gear", "ready": True}
    wrong = tensors[1] | {"shape": [64, 64]}
    assert client.post("/v2/models/gear/infer", json={"inputs": [wrong]}).status_code == 422
    assert client.get("/v2/models/none").status_code == 404


def test_events_tell_what_happens(client):
    import asyncio

    from blemish.station.events import Bus

    async def heard():
        bus = Bus()
        bus.start(asyncio.get_running_loop())
        bus.publish("job", job=1)
        await asyncio.sleep(0)
        stream = bus.stream(after=0)
        found = [await anext(stream), await anext(stream)]
        bus.publish("job", job=2)
        found.append(await anext(stream))
        bus.stop()
        return found, [one async for one in stream]

    texts, rest = asyncio.run(heard())
    assert [text.partition("data: ")[2].strip() for text in texts] == ["", '{"job": 1}', '{"job": 2}']
    assert rest == []


def test_a_watched_folder_is_inspected_once(client, tmp_path, monkeypatch):
    folder = tmp_path / "line"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(1))
    assert client.put("/v1/products/1/watch", json={"path": str(folder)}).json() == {
        "path": str(folder),
        "problem": None,
    }
    (folder / "b.png").write_bytes(picture(2, is_defect=True))
    wait_for(lambda: client.get("/v1/products/1/counters").json()["inspected"] == 2)
    found = client.get("/v1/products/1/inspections").json()
    assert {one["name"]: one["decision"] == "defect" for one in found} == {"a.png": False, "b.png": True}
    assert client.delete("/v1/products/1/watch").status_code == 204
    read = []
    monkeypatch.setattr(watching, "read_bytes", lambda path, _: read.append(path))
    assert client.put("/v1/products/1/watch", json={"path": str(folder)}).status_code == 200
    watcher = client.app.state.station.watching._watchers[1]
    wait_for(lambda: len(watcher._done) == 2)
    assert client.get("/v1/products/1/counters").json()["inspected"] == 2
    assert not read  # what was inspected before is known without its content
    (folder / "a.png").unlink()
    wait_for(lambda: list(watcher._done) == [folder / "b.png"])
    assert client.put("/v1/products/1/watch", json={"path": "/nowhere"}).status_code == 422


def test_figures_of_a_period_and_csv(client, workspace):
    for seed in (1, 2):
        client.post("/v1/products/1/inspect", content=picture(seed + 600, is_defect=seed == 2), headers=PNG)
    client.post("/v1/inspections/2/review", json={"verdict": "good"})
    for by in ("hour", "shift", "day"):
        found = client.get(f"/v1/products/1/report?days=1&by={by}").json()
        assert sum(row["inspected"] for row in found["rows"]) == found["total"]["inspected"] == 2
        assert (found["total"]["reviewed_rejects"], found["total"]["false_rejects"]) == (1, 1)
    header, row = client.get("/v1/products/1/report.csv").text.splitlines()
    assert header.startswith("label,inspected,good,review,defect")
    assert row.split(",")[1] == "2"
    for language in ("en", "de"):
        answer = client.get(f"/v1/products/1/report.pdf?language={language}")
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.content.startswith(b"%PDF-")
