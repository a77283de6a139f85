"""Each field of model.json has its type and range; what is outside of it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import BlemishError
from blemish.model.document import LARGEST_DOCUMENT, parse

PATH = Path("model.json")
LEVELS = [float(level) for level in range(10)]
CALIBRATION = {
    "threshold": 1,
    "pixel_threshold": 2.5,
    "false_alarm_rate": 0.1,
    "pixel_rate": None,
    "good_scores": [0.5, 1],
    "pixel_levels": LEVELS,
    "min_area": 3,
    "method": "folds",
    "defect_scores": [],
}
VIEW = {"size": [32, 48], "aspect": "pad", "tile": 64, "overlap": 32, "roi": "roi.png", "reference": None}
DOCUMENT: dict[str, Any] = {
    "format_version": 4,
    "model": "patchcore",
    "category": "screw",
    "options": {"size": 32},
    "preprocess": VIEW,
    "calibration": CALIBRATION,
    "sha256": {"model.safetensors": "0" * 64, "openvino/model.xml": "a" * 64},
    "files": {"model.safetensors": "model-ab.safetensors", "openvino/model.xml": "openvino/model-cd.xml"},
    "exports": {"onnx": {"precision": "half"}},
    "metrics": {"pixel_auroc": 0.5, "aupro": None},
    "provenance": {"config": {"seed": 3, "colour": "any"}, "learned_from": ["ab"], "machine": {"cores": 2}},
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in DOCUMENT.items() if key != name}


def test_what_is_right_is_read():
    found = parse(json.dumps(DOCUMENT).encode(), PATH)
    assert found.preprocess.size == (32, 48)
    assert found.calibration is not None
    assert (found.calibration.threshold, found.calibration.good_scores) == (1.0, (0.5, 1.0))
    assert found.provenance == DOCUMENT["provenance"]
    assert found.metrics == {"pixel_auroc": 0.5, "aupro": None}


@pytest.mark.parametrize("name", ["calibration", "exports", "metrics"])
def test_what_older_versions_did_not_have_may_be_missing(name):
    assert not getattr(parse(json.dumps(without(name) | {"format_version": 1}).encode(), PATH), name)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a number as text": (DOCUMENT | {"calibration": CALIBRATION | {"threshold": "1"}}, "calibration.threshold: input"),
    "a truth as number": (DOCUMENT | {"calibration": CALIBRATION | {"threshold": True}}, "calibration.threshold: inp"),
    "no threshold": (DOCUMENT | {"calibration": {}}, "calibration.threshold: field required"),
    "a score of none": (DOCUMENT | {"calibration": CALIBRATION | {"good_scores": [None]}}, "calibration.good_scores.0"),
    "scores as text": (DOCUMENT | {"calibration": CALIBRATION | {"good_scores": "12"}}, "calibration.good_scores: inp"),
    "too few levels": (DOCUMENT | {"calibration": CALIBRATION | {"pixel_levels": [1]}}, "10 levels, or none"),
    "a rate above one": (
        DOCUMENT | {"calibration": CALIBRATION | {"pixel_rate": 2}},
        "a rate must lie between 0 and 1",
    ),
    "a rate of zero": (DOCUMENT | {"calibration": CALIBRATION | {"false_alarm_rate": 0}}, "a rate must lie between"),
    "a negative area": (
        DOCUMENT | {"calibration": CALIBRATION | {"min_area": -1}},
        "min_area must be a number of pixels",
    ),
    "an endless area": (DOCUMENT | {"calibration": CALIBRATION | {"min_area": 10**30}}, "min_area must be a"),
    "another method": (DOCUMENT | {"calibration": CALIBRATION | {"method": "luck"}}, "'split' or 'folds'"),
    "more of it": (DOCUMENT | {"calibration": CALIBRATION | {"luck": 1}}, "calibration.luck: unexpected"),
    "one side": (DOCUMENT | {"preprocess": VIEW | {"size": [32]}}, "preprocess.size.1: field required"),
    "three sides": (DOCUMENT | {"preprocess": VIEW | {"size": [32, 32, 3]}}, "preprocess.size: tuple should have"),
    "a large side": (DOCUMENT | {"preprocess": VIEW | {"size": [32, 10**9]}}, "less than or equal to 4096"),
    "half a side": (DOCUMENT | {"preprocess": VIEW | {"size": [32, 0.5]}}, "preprocess.size.1: input should be a val"),
    "tiny tiles": (DOCUMENT | {"preprocess": VIEW | {"tile": 1}}, "preprocess.tile: input should be greater than"),
    "a large overlap": (DOCUMENT | {"preprocess": VIEW | {"overlap": 33}}, "half a tile is allowed at most, which is"),
    "another roi": (DOCUMENT | {"preprocess": VIEW | {"roi": "../mask.png"}}, "preprocess.roi: input should be 'roi."),
    "a list": (DOCUMENT | {"options": []}, "options: input should be an object"),
    "a short digest": (DOCUMENT | {"sha256": {"model.safetensors": "0"}}, "sha256.model.safetensors: string should"),
    "a file outside": (DOCUMENT | {"sha256": {"../x": "0" * 64}}, "names '../x', which is outside its folder"),
    "a path outside": (DOCUMENT | {"files": {"a": "/etc/passwd"}}, "names '/etc/passwd', which is outside"),
    "a file without a path": (DOCUMENT | {"files": {}}, "files: needs a path for each file in sha256"),
    "a category of none": (DOCUMENT | {"category": None}, "category: input should be a valid string"),
    "an old view of none": (without("files") | {"format_version": 1, "preprocess": None}, "damaged, TypeError"),
    "a metric above one": (DOCUMENT | {"metrics": {"aupro": 1.5}}, "metrics.aupro: input should be less than"),
    "a negative seed": (DOCUMENT | {"provenance": {"config": {"seed": -1}}}, "provenance: config.seed: input should"),
    "one size": (DOCUMENT | {"provenance": {"images": {"sizes": [[1, 2]]}}}, "images.sizes: needs the smallest"),
    "no digests": (DOCUMENT | {"provenance": {"learned_from": [3]}}, "provenance: learned_from.0: input should be"),
    "no model": (without("model"), "model: field required"),
    "more": (DOCUMENT | {"calibratoin": None}, "calibratoin: extra inputs are not permitted"),
    "a version of text": (DOCUMENT | {"format_version": "3"}, "format_version '3', this blemish reads"),
    "a version of truth": (DOCUMENT | {"format_version": True}, "format_version True, this blemish reads"),
    "nan in the depth": (DOCUMENT | {"options": {"x": [float("nan")]}}, "a number is not finite"),
}


@pytest.mark.parametrize(("content", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(content, expected):
    with pytest.raises(BlemishError) as raised:
        parse(json.dumps(content).encode(), PATH)
    assert expected in str(raised.value)
    assert str(raised.value).startswith("model.json: ")


RAW = {
    "nothing": b"",
    "half": json.dumps(DOCUMENT).encode()[:300],
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "another encoding": json.dumps(DOCUMENT).encode("utf-16"),
    "not UTF-8": b'{"model": "\xff"}',
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a long number": b'{"format_version": ' + b"9" * 5000 + b"}",
    "beyond a double": json.dumps(DOCUMENT | {"options": {"x": 7}}).encode().replace(b"7", b"1e400"),
    "binary": bytes(range(256)),
    "too large": b" " * (LARGEST_DOCUMENT + 1),
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_what_is_no_document_is_one_line(raw):
    with pytest.raises(BlemishError) as raised:
        parse(raw, PATH)
    assert len(str(raised.value)) < 300
