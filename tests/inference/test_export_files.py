"""Which files a graph reads is known before a runtime opens it, and damage shows without one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from blemish.errors import BlemishError
from blemish.inference.export_files import check_openvino, external_files


def external(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def a_model(**parts: list[TensorProto]) -> onnx.ModelProto:
    """A model with tensors at every place where a graph may have them."""
    constant = helper.make_node("Constant", [], ["c"], value=parts["constants"][0]) if "constants" in parts else None
    inner = helper.make_graph([], "inner", [], [], parts.get("inner", []))
    condition = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    nodes = [condition] + ([constant] if constant else [])
    own = numpy_helper.from_array(np.ones(1000, np.float32), "own")
    graph = helper.make_graph(nodes, "g", [], [], [own, *parts.get("weights", [])])
    function = helper.make_function("d", "f", [], [], [constant] if constant else [], [helper.make_opsetid("", 18)])
    model = helper.make_model(graph, functions=[function])
    for tensor in parts.get("sparse", []):
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
    return model


@pytest.mark.parametrize("place", ["weights", "inner", "constants", "sparse"])
def test_external_files_are_found_at_every_place(place, tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(a_model(**{place: [external("w", "../secret.bin")]}).SerializeToString())
    assert external_files(path) == {"../secret.bin"}


def test_a_graph_that_holds_everything_reads_nothing_else(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(a_model().SerializeToString())
    assert external_files(path) == set()


def test_a_truncated_graph_is_refused_wherever_it_ends(tmp_path: Path):
    raw, path = a_model(weights=[external("w", "w.bin")]).SerializeToString(), tmp_path / "model.onnx"
    refused = 0
    for length in range(len(raw) - 4200):
        path.write_bytes(raw[:length])
        try:
            external_files(path)
        except BlemishError:
            refused += 1
    assert refused >= len(raw) - 4200 - 8  # it may end between two fields of the model itself


@given(st.binary(max_size=200))
def test_any_bytes_are_a_set_of_names_or_one_line(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(raw)
    with suppress(BlemishError):
        assert all(isinstance(name, str) for name in external_files(path))


NET = '<?xml version="1.0"?><net><layers><layer type="{type}"><data {data}/></layer></layers></net>'
OPENVINO: dict[str, tuple[str, str]] = {
    "beyond its end": (NET.format(type="Const", data='offset="8" size="9"'), "a constant lies outside its weights"),
    "before its beginning": (NET.format(type="Const", data='offset="-8" size="9"'), "outside its weights"),
    "nowhere": (NET.format(type="Const", data='size="9"'), "'offset'"),
    "a word": (NET.format(type="Const", data='offset="a" size="9"'), "invalid literal"),
    "another root": ("<html/>", "its root is html"),
    "cut off": ("<net><layers>", "no element found"),
    "nothing": ("", "no element found"),
    "an entity": ('<!DOCTYPE net [<!ENTITY a "x">]><net/>', "it declares a document type"),
    "an ONNX graph": ("\x08\x08\x12\x07pytorch", "not well-formed"),
}


@pytest.mark.parametrize(("xml", "expected"), OPENVINO.values(), ids=OPENVINO)
def test_a_damaged_graph_of_openvino_is_named(xml, expected, tmp_path: Path):
    (tmp_path / "model.xml").write_text(xml)
    (tmp_path / "model.bin").write_bytes(bytes(16))
    with pytest.raises(BlemishError, match="not a graph of OpenVINO, or damaged") as raised:
        check_openvino(tmp_path / "model.xml", tmp_path / "model.bin")
    assert expected in str(raised.value)


def test_a_graph_of_openvino_within_its_weights(tmp_path: Path):
    (tmp_path / "model.xml").write_text(NET.format(type="Const", data='offset="8" size="8"'))
    (tmp_path / "model.bin").write_bytes(bytes(16))
    check_openvino(tmp_path / "model.xml", tmp_path / "model.bin")
