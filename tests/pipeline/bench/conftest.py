"""Tiny models for the bench, made here, and one finished run of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.artifact import write_card
from edgekit.data.seeded import seeded_feed
from edgekit.pipeline.bench import BenchResult, bench
from edgekit.report.document import dumps, envelope
from edgekit.types import Card, SelfTest, Signature, Task, TensorSpec

WIDTH = 64
QUICK = {"seconds": 0.3, "workers": 2}


def _make_onnx(path: Path, layers: int, *, batch: int | str = 1, selftest_off_by: float | None = None) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x" if k == 0 else f"t{k}", "w"], [f"t{k + 1}"]) for k in range(layers)]
    nodes.append(helper.make_node("Relu", [f"t{layers}"], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path if selftest_off_by is None else _with_selftest(path, selftest_off_by)


def _with_selftest(path: Path, offset: float) -> Path:
    """Puts a card into ``path`` whose self-test expects the right outputs plus ``offset``."""
    specs = [(TensorSpec(name, "float32", (1, WIDTH)),) for name in ("x", "y")]
    card = Card("tiny", "custom", Task(), Signature(*specs))
    expected = np.maximum(seeded_feed(card.signature, {}, 5)["x"], 0).reshape(-1) + offset
    write_card(path, replace(card, selftest=SelfTest(5, {"y": tuple(map(float, expected))}, 1e-5)))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="session")
def models(folder: Path) -> tuple[str, str]:
    light = _make_onnx(folder / "light.onnx", 1, selftest_off_by=0.0)
    return str(light), str(_make_onnx(folder / "heavy.onnx", 40))


@pytest.fixture(scope="session")
def result(models: tuple[str, str]) -> BenchResult:
    return bench(models, **QUICK)


@pytest.fixture(scope="session")
def saved(result: BenchResult, folder: Path) -> Path:
    path = folder / "saved.json"
    path.write_text(dumps(envelope("bench", result.document())), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_onnx() -> Callable[..., Path]:
    """``make_onnx(path, layers, batch=1, selftest_off_by=None)``: matrix products in a row, 64 wide.

    With ``selftest_off_by`` the file carries a card whose self-test expects the right outputs plus that.
    """
    return _make_onnx
