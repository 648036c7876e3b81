"""A float classifier that wastes its time, and candidates for it that are fast, slow, wrong or deadly on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact, sha256_file, write_card
from edgekit.data.dataset import split_indices
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline import schemes
from edgekit.pipeline.quantize import QuantizeResult
from edgekit.runtime.openvino import OpenVinoRunner

WIDTH, CLASSES, COUNT = 64, 4, 400
HIDDEN, WASTE = 512, 12
"""Width and number of the matrix products beside the one that answers: hundreds of microseconds, against a few. One
matrix serves them all, so that files are small."""
Nets = Callable[..., Path]


def _net(path: Path, waste: int, *, sign: float = 1.0, marked: float = 0.0, note: str = "") -> Path:
    """``logits = sign * x @ H * (1 - marked * x[63])`` and ``waste`` products of no consequence."""
    head = np.zeros((WIDTH, CLASSES), np.float32)
    head[:CLASSES] = sign * np.eye(CLASSES)
    flag = np.zeros((WIDTH, 1), np.float32)
    flag[-1] = -marked
    wide = np.zeros((WIDTH, HIDDEN), np.float32)
    held = {
        "wide": wide,
        "narrow": wide.T,
        "w": np.eye(HIDDEN, dtype=np.float32),
        "h": head,
        "f": flag,
        "one": np.float32(1),
    }
    nodes = [helper.make_node("MatMul", ["x", "wide"], ["t0"])]
    nodes += [helper.make_node("MatMul", [f"t{k}", "w"], [f"t{k + 1}"]) for k in range(waste)]
    nodes += [
        helper.make_node("MatMul", [f"t{waste}", "narrow"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["same"]),
        helper.make_node("MatMul", ["same", "h"], ["answer"]),
        helper.make_node("MatMul", ["same", "f"], ["flag"]),
        helper.make_node("Add", ["flag", "one"], ["kept"]),
        helper.make_node("Mul", ["answer", "kept"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", WIDTH), ("logits", CLASSES))
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.doc_string = note
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def nets() -> Nets:
    """``nets(path, waste, sign=1, marked=0, note="")``."""
    return _net


@pytest.fixture(scope="session")
def wasteful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float file."""
    return _net(tmp_path_factory.mktemp("auto") / "wasteful.onnx", WASTE)


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Labelled samples; feature 63 is 1 in those of the test split, else 0."""
    generator = np.random.default_rng(0)
    inputs = generator.uniform(0, 1, (COUNT, WIDTH)).astype(np.float32)
    labels = inputs[:, :CLASSES].argmax(1)
    _, test = split_indices(COUNT, labels)
    inputs[:, -1] = 0
    inputs[test, -1] = 1
    path = tmp_path_factory.mktemp("answers") / "answers.npz"
    np.savez(path, x=inputs, labels=labels)
    return f"npz:{path}"


@pytest.fixture(autouse=True)
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests count are the ways of edgekit's own environment; those about OpenVINO take it back."""
    monkeypatch.setattr(OpenVinoRunner, "environment", None)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """``planted(scheme, waste, keep_selftest=False, **net)``: that scheme's file is another network's from now on.

    ``int8 mse`` is that of one way to find ranges.

    The file has the card of the real candidate, without its self-test unless that is to be kept.
    """
    real = schemes.quantize_one
    plants: dict[str, tuple[Path, bool]] = {}

    def make(options: QuantizeOptions) -> QuantizeResult:
        made, target = real(options), Path(options.out)
        name = f"{options.scheme} {options.calibration}"
        plant = plants.get(name) or plants.get(options.scheme)
        if plant is None or options.mixed:
            return made
        file, keep = plant
        card = open_artifact(target).card
        assert card is not None
        write_card(file, card if keep else replace(card, selftest=None), target)
        file = replace(made.artifact, sha256=sha256_file(target), bytes=target.stat().st_size)
        return replace(made, artifact=file)

    monkeypatch.setattr(schemes, "quantize_one", make)

    def plant(scheme: str, waste: int, *, keep_selftest: bool = False, **net: object) -> None:
        plants[scheme] = _net(tmp_path / f"plant-{scheme}.onnx", waste, **net), keep_selftest  # type: ignore[arg-type]

    return plant
