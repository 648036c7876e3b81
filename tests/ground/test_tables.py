"""How many rows a table has that integer inputs are looked up in, read from the bytes of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.artifact import contract_of, open_artifact
from edgekit.data.seeded import extreme_feed, seeded_feed
from edgekit.passes import PassContext
from edgekit.quantization.onnx.quantize import SCHEMES, QuantizeOnnx
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.runtime import load
from edgekit.tables import index_bounds
from edgekit.types import Format, InputSpec, Signature, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")


def lookups(path: Path, nodes: list[Any], **tables: Any) -> Path:
    """A file whose inputs ``a`` and ``b`` are int64 (1, 3)."""
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in tables.items()]
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, 3]) for name in "ab"]
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], made)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_tables_behind_other_operators_and_along_other_axes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Reshape", ["a", "flat"], ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=TensorProto.INT32),
        helper.make_node("Gather", ["wide", "c"], ["e"], axis=-1),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(rng.normal(size=(2, 300)))),
        helper.make_node("Gather", ["two", "b"], ["f"]),
        helper.make_node("Gather", ["long", "b"], ["g"]),
        helper.make_node("ReduceSum", ["e"], ["y"], keepdims=0),
    ]
    flat = np.array([3])
    path = lookups(tmp_path / "m.onnx", nodes, flat=flat, wide=np.zeros((4, 7), np.float32), long=np.zeros((900, 300)))
    assert index_bounds(path.read_bytes(), Format.ONNX) == {"a": 7, "b": 2}  # b: the smaller of its two tables


def test_what_is_not_looked_up_has_no_bound(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["t", "a"], ["e"]),
        helper.make_node("Add", ["b", "b"], ["s"]),
        helper.make_node("Gather", ["t", "s"], ["y"]),  # of a sum nothing is known
    ]
    path = lookups(tmp_path / "m.onnx", nodes, t=np.zeros((5, 4), np.float32))
    assert index_bounds(path.read_bytes(), Format.ONNX) == {"a": 5}


SOURCE = """
import torch
from torch import nn

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.types, self.out = nn.Embedding(400, 32), nn.Embedding(2, 32), nn.Linear(32, 8)

    def forward(self, ids, kinds):
        return self.out(self.words(ids) + self.types(kinds))

def net():
    torch.manual_seed(0)
    return Words().eval(), {"ids": torch.randint(0, 400, (1, 6)), "kinds": torch.randint(0, 2, (1, 6))}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Path]:
    folder = tmp_path_factory.mktemp("words")
    (folder / "net.py").write_text(SOURCE)
    made = edgekit.export(f"{folder / 'net.py'}:net", to=["onnx", "tflite"], out=folder)
    return {row.artifact.format: row.artifact.path for row in made.artifacts}


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_exported_and_quantized_files_say_how_many_rows_there_are(
    files: dict[Format, Path], tmp_path: Path, format_: Format
) -> None:
    """The card's self-test has such integers, and every made-up feed runs, of the float file and of all schemes."""
    artifact = open_artifact(files[format_])
    assert artifact.card is not None
    assert artifact.card.selftest is not None
    schemes = [s for s in SCHEMES if s != "int8"]
    made = [files[format_]]
    for scheme in schemes:
        target = tmp_path / f"{scheme}.{format_}"
        quantizer = QuantizeOnnx(scheme) if format_ is Format.ONNX else QuantizeTflite(scheme)
        quantizer.run(artifact, PassContext(target))
        made.append(target)
    for path in made:
        assert index_bounds(path.read_bytes(), format_) == {"ids": 400, "kinds": 2}
        own = open_artifact(path)
        with load(path) as runner:
            contract = contract_of(own)
            for feed in (
                seeded_feed(runner.signature, contract, 0),
                extreme_feed(runner.signature, contract, 1),
                extreme_feed(runner.signature, contract, -1),
            ):
                assert np.isfinite(next(iter(runner.run(feed).values()))).all()


def test_made_up_integers_stay_below_their_bound() -> None:
    signature = Signature((TensorSpec("kinds", "int64", (50,)), TensorSpec("ids", "int64", (50,))), ())
    contract = {"kinds": InputSpec(params={"below": 2}), "ids": InputSpec(params={"below": 1000})}
    feed = seeded_feed(signature, contract, 0)
    assert set(feed["kinds"]) == {0, 1}
    assert feed["ids"].max() == 9
    top = extreme_feed(signature, contract, 1)
    assert (top["kinds"].max(), top["ids"].max()) == (1, 9)
    assert np.array_equal(feed["ids"], seeded_feed(signature, {}, 0)["ids"])  # as before, where there is room


def test_a_scalar_stays_one() -> None:
    signature = Signature((TensorSpec("t", "float32", ()), TensorSpec("n", "int64", ())), ())
    assert [value.shape for value in seeded_feed(signature, {}, 0).values()] == [(), ()]
