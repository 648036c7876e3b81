"""HARD_SWISH as a sum and a product computes what it did, and its factor goes where it may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.graph.tflite_editor import Editor
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.tflite.products import with_products
from edgekit.types import Array

from ..tflite_files import swish_file

pytestmark = pytest.mark.usefixtures("kept_workers")


def computed(content: bytes, x: Array) -> Array:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def kinds(content: bytes) -> list[str]:
    editor = Editor(content)
    graph = editor.main()
    return [graph.kind(node) for node in graph.raw.operators]


@pytest.mark.parametrize(("tail", "products"), [("CONV_2D", 2), ("ADD", 3)], ids=["folded", "not folded"])
def test_the_same_numbers(tmp_path: Path, tail: str, products: int) -> None:
    """Into an ADD with something else the factor cannot go: there a third operator takes it back."""
    parent = swish_file(tmp_path / "a.tflite", tail).read_bytes()
    content, done = with_products(parent, frozenset({"swish"}))
    assert "HARD_SWISH" not in kinds(content)
    assert len(done.parts["swish"]) == products
    x = 4 * np.random.default_rng(1).standard_normal((1, 4, 4, 3)).astype(np.float32)
    wanted = computed(parent, x)
    # float32: a product and a division by six more than in the parent, eight terms a sum
    assert computed(content, x) == pytest.approx(wanted, abs=2e-5 * float(np.abs(wanted).max()))


def test_the_calibration_follows_the_factor(tmp_path: Path) -> None:
    parent = swish_file(tmp_path / "a.tflite").read_bytes()
    _, done = with_products(parent, frozenset({"swish"}))
    given = Calibration("minmax", "d", 1, {"swish": Range(-0.375, 2.0), "before": Range(-3, 3)}, {"swish": (0.5, 1.0)})
    found = done.calibration(given)
    assert found.ranges[done.scaled["swish"]] == Range(-2.25, 12.0)
    assert found.ranges["swish/relu6"] == Range(0.0, 6.0)
    assert found.means[done.scaled["swish"]] == (3.0, 6.0)
    assert found.ranges["before"] == given.ranges["before"]
    # the mean over the plane and the product with the gate carry it on, the gate's weights take it up
    assert set(done.scaled) == {"swish", "mean", "product"}
    assert done.named(frozenset({"mean", "gate"})) == {done.scaled["mean"], "gate"}


def test_what_is_not_named_stays(tmp_path: Path) -> None:
    parent = swish_file(tmp_path / "a.tflite").read_bytes()
    assert with_products(parent, frozenset()) == (parent, with_products(parent, frozenset())[1])
    assert "HARD_SWISH" in kinds(with_products(parent, frozenset({"before"}))[0])


def test_a_product_of_two_hard_swishes_carries_the_factor_of_both(tmp_path: Path) -> None:
    parent = swish_file(tmp_path / "a.tflite", "squared").read_bytes()
    content, done = with_products(parent, frozenset({"swish", "other"}))
    assert done.factors["square"] == 36.0
    x = 2 * np.random.default_rng(1).standard_normal((1, 4, 4, 3)).astype(np.float32)
    wanted = computed(parent, x)
    assert computed(content, x) == pytest.approx(wanted, abs=2e-5 * float(np.abs(wanted).max()))


def test_shared_weights_are_divided_once_or_not_at_all(tmp_path: Path) -> None:
    """Two convolutions share weights: behind two HARD_SWISH both need the factor, behind one only one would."""
    for tail, products in (("shared", 2), ("half shared", 3)):
        parent = swish_file(tmp_path / "a.tflite", tail).read_bytes()
        names = frozenset({"swish", "other"}) if tail == "shared" else frozenset({"swish"})
        content, done = with_products(parent, names)
        assert {len(parts) for parts in done.parts.values()} == {products}
        assert len(content) < len(parent) + 2500  # operators and names, no second copy of weights
        x = np.random.default_rng(1).standard_normal((1, 4, 4, 3)).astype(np.float32)
        wanted = computed(parent, x)
        assert computed(content, x) == pytest.approx(wanted, abs=2e-5 * float(np.abs(wanted).max()))
