"""Model files of strangers: references to one part again and again, functions that call each other, damage."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from edgekit import protobuf_reader
from edgekit.artifact import contract_of, open_artifact
from edgekit.errors import LimitError, ModelError
from edgekit.quality.contents import file_signature, operators
from edgekit.quality.coverage import coverage, quantized_already

pytestmark = pytest.mark.usefixtures("kept_workers")

ENDS = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]


def model(nodes: list[Any], functions: list[Any] | None = None) -> bytes:
    graph = helper.make_graph(nodes, "g", ENDS[:1], ENDS[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=opsets, functions=functions or [])
    data: bytes = made.SerializeToString()
    return data


def calling(name: str, *called: str) -> Any:
    ends = ["x", *(f"t{k}" for k in range(len(called) - 1)), "y"]
    nodes = [helper.make_node(one, [a], [b], domain="own") for one, a, b in zip(called, ends, ends[1:], strict=False)]
    return helper.make_function("own", name, ["x"], ["y"], nodes, [helper.make_opsetid("own", 1)])


def test_functions_that_stand_for_many_operators() -> None:
    leaf = helper.make_function(
        "own", "f0", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    start = [helper.make_node("f40", ["x"], ["y"], domain="own")]
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_GRAPH_NODES"):
        protobuf_reader.check(model(start, [leaf, *(calling(f"f{k}", *[f"f{k - 1}"] * 2) for k in range(1, 41))]))
    start = [helper.make_node("f3", ["x"], ["y"], domain="own")]
    protobuf_reader.check(model(start, [leaf, *(calling(f"f{k}", *[f"f{k - 1}"] * 2) for k in range(1, 4))]))
    start = [helper.make_node("a", ["x"], ["y"], domain="own")]
    with pytest.raises(ModelError, match="'a' calls itself"):
        protobuf_reader.check(model(start, [calling("a", "b"), calling("b", "a")]))


def test_graphs_within_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes by hand: protobuf itself writes no more than a hundred levels."""

    def field(number: int, payload: bytes) -> bytes:
        return protobuf_reader._field(number, payload)

    def nested(depth: int) -> bytes:
        graph = b""
        for _ in range(depth):
            graph = field(1, field(5, field(6, graph)))  # a node with an attribute with a graph
        return b"\x08\x09" + field(7, graph) + field(8, b"\x10\x11")

    protobuf_reader.check(nested(50))
    with pytest.raises(ModelError, match="more than 90 deep"):
        protobuf_reader.check(nested(3000))
    monkeypatch.setenv("EDGEKIT_LIMIT_GRAPH_NODES", "10")
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_GRAPH_NODES"):
        protobuf_reader.check(nested(11))


@pytest.mark.parametrize("nodes", [
    [helper.make_node("Cast", ["a"], ["b"]), helper.make_node("Cast", ["b"], ["a"])],
    [helper.make_node("Cast", [], ["y"])],
    [helper.make_node("Relu", ["x"], [])],
    [helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft")],
])  # fmt: skip
def test_operators_that_cannot_be(tmp_path: Path, nodes: list[Any]) -> None:
    (tmp_path / "a.onnx").write_bytes(model(nodes))
    with pytest.raises(ModelError, match=r"a\.onnx cannot be read as ONNX: its operator"):
        coverage(open_artifact(tmp_path / "a.onnx"))


@pytest.mark.parametrize("name", [b"cat_x", b"cat_out", b"cat_own", b"cat_size"])
def test_names_that_are_not_text(tmp_path: Path, name: bytes) -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["cat_size"]) for n in ("cat_x", "cat_out")]
    graph = helper.make_graph([helper.make_node("Relu", ["cat_x"], ["cat_out"], "cat_own")], "g", ends[:1], ends[1:])
    data: bytes = helper.make_model(graph, doc_string="caf\u00e9").SerializeToString()
    (tmp_path / "a.onnx").write_bytes(data.replace("caf\u00e9".encode(), b"caf\xe9\xe9"))
    for read in READERS:
        read(open_artifact(tmp_path / "a.onnx"))  # a remark may be in any encoding
    (tmp_path / "a.onnx").write_bytes(data.replace(name, b"\xff" + name[1:]))
    for read in READERS:
        with pytest.raises(ModelError, match=r"a\.onnx cannot be read as ONNX: it has the name .* not UTF-8"):
            read(open_artifact(tmp_path / "a.onnx"))


def test_a_long_row_of_activations(tmp_path: Path) -> None:
    names = ["x", *(f"t{k}" for k in range(1999)), "y"]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)]
    (tmp_path / "a.onnx").write_bytes(model(nodes))
    assert coverage(open_artifact(tmp_path / "a.onnx")).operators == 2000


@pytest.mark.parametrize(("count", "words"), [(1, ""), (300_000, "again and again|times over")])
def test_many_references_to_one_subgraph(tmp_path: Path, tflite: Path, count: int, words: str) -> None:
    content = schema.ModelT.InitFromPackedBuf(tflite.read_bytes(), 0)
    builder = flatbuffers.Builder()
    graph = content.subgraphs[0].Pack(builder)

    def listed(start: Callable[[Any, int], Any], places: list[int]) -> Any:
        start(builder, len(places))
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    codes = listed(schema.ModelStartOperatorCodesVector, [one.Pack(builder) for one in content.operatorCodes])
    buffers = listed(schema.ModelStartBuffersVector, [one.Pack(builder) for one in content.buffers])
    graphs = listed(schema.ModelStartSubgraphsVector, [graph] * count)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    (tmp_path / "a.tflite").write_bytes(builder.Output())
    if not words:
        assert operators(open_artifact(tmp_path / "a.tflite"))
        return
    with pytest.raises(ModelError, match=words):
        open_artifact(tmp_path / "a.tflite")


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import edgekit

    done = edgekit.export("mlp", to=["tflite", "onnx"], out=tmp_path_factory.mktemp("mlp"))
    return next(one.artifact.path for one in done.artifacts if one.artifact.path.suffix == ".tflite")


READERS: tuple[Callable[[Any], Any], ...] = (operators, file_signature, coverage, quantized_already)


def test_operators_without_inputs_or_outputs(tmp_path: Path, tflite: Path) -> None:
    content = schema.ModelT.InitFromPackedBuf(tflite.read_bytes(), 0)
    content.subgraphs[0].operators[0].inputs = []  # as VAR_HANDLE has none
    content.subgraphs[0].operators[-1].outputs = []
    builder = flatbuffers.Builder()
    builder.Finish(content.Pack(builder), file_identifier=b"TFL3")
    (tmp_path / "a.tflite").write_bytes(builder.Output())
    assert coverage(open_artifact(tmp_path / "a.tflite")).operators == coverage(open_artifact(tflite)).operators
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    (tmp_path / "a.onnx").write_bytes(model([helper.make_node("Constant", [], [], value=value)]))
    with pytest.raises(ModelError, match=r"a\.onnx cannot be read as a graph of onnx"):
        contract_of(open_artifact(tmp_path / "a.onnx"))


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_damage_is_a_model_error(tmp_path: Path, tflite: Path, suffix: str) -> None:
    dice = random.Random(suffix)
    whole = next(tflite.parent.glob(f"*{suffix}")).read_bytes()
    opened = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            place = dice.randrange(min(len(data), dice.choice((400, 6000, len(data)))))
            data[place] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        file = tmp_path / f"a{suffix}"
        file.write_bytes(data[: dice.randrange(len(data)) if dice.random() < 0.1 else len(data)])
        try:
            artifact = open_artifact(file)
        except ModelError:
            continue
        opened += 1
        for read in READERS:
            try:
                read(artifact)
            except ModelError:
                continue
    assert opened > 10
