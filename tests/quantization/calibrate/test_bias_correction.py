"""The bias takes off what rounding weights adds on average: by hand, for each kind of layer, and in a whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.passes import PassContext
from edgekit.quantization.calibrate.bias_correction import correct_biases, mean_error
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.linear_graph import OperatorKind
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.prepared import prepare
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.runtime import load
from edgekit.types import Artifact, Feed, Format

pytestmark = pytest.mark.usefixtures("kept_workers")

RNG = np.random.default_rng(0)


def test_by_hand() -> None:
    weight = np.array([[1.27, 0.004], [0.127, 0.0]])[:, :, None]  # scales 0.01 and 0.001: only 0.004 is rounded, to 0
    found = mean_error(weight, np.array([3.0, 5.0]))
    assert found == pytest.approx([-0.004 * 5.0, 0.0], abs=1e-7)  # scales are held in float32
    assert mean_error(weight, np.array([3.0, 5.0, 1.0])) is None


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_of_constant_channels(groups: int) -> None:
    weight = RNG.normal(size=(12, 6 // groups, 9)).astype(np.float32)
    mean = RNG.normal(size=6)
    found = mean_error(weight, mean, groups)
    assert found is not None
    scale = np.abs(weight).max(axis=(1, 2), keepdims=True) / 127
    error = np.round(weight / scale) * scale - weight
    wanted = [sum(error[o, c].sum() * mean[o // (12 // groups) * (6 // groups) + c] for c in range(6 // groups))
              for o in range(12)]  # fmt: skip
    # float32 scales against float64 ones: 1e-7 of values around 1
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_the_mean_error_of_a_file_falls(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    digit_feeds: list[Feed],
    tmp_path: Path,
    format_: Format,
) -> None:
    artifact, ranges = files[format_], calibrations[format_]
    quantizer = QuantizeOnnx if format_ is Format.ONNX else QuantizeTflite
    bare = replace(ranges, means={})
    for name, used in (("bare", bare), ("corrected", ranges)):
        quantizer("int8", used).run(artifact, PassContext(tmp_path / f"{name}.{format_}"))
    outputs = {}
    for path in (artifact.path, tmp_path / f"bare.{format_}", tmp_path / f"corrected.{format_}"):
        with load(path) as runner:
            outputs[path.stem] = np.concatenate([runner.run(feed)["logits"] for feed in digit_feeds])
    exact = outputs[artifact.path.stem]
    assert (outputs["bare"] != outputs["corrected"]).any()
    # No more than it was, with a fifth of slack: activations are rounded, too, and these are few samples.
    assert np.abs(outputs["corrected"] - exact).mean() <= 1.2 * np.abs(outputs["bare"] - exact).mean()


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_with_rounded_weights_and_constant_inputs_the_bias_makes_up_for_all(
    files: Mapping[Format, Artifact], format_: Format
) -> None:
    """Of every layer of both formats: rounded weights and the new bias give what the old ones gave, on the mean."""
    plain, changed = (prepare(files[format_]).linear_graph() for _ in range(2))
    layers = [one for one in plain.operators if one.kind is OperatorKind.LAYER and one.shifts]
    assert len(layers) >= 6  # the stem, two blocks of two, and the head at the least
    means = {one.inputs[0]: RNG.normal(size=plain.rows(one).shape[1] * one.groups) for one in layers}
    assert correct_biases(changed, means) == len(layers)
    for one in layers:
        rows, mean = plain.rows(one), means[one.inputs[0]]
        scale = np.abs(rows).max(axis=(1, 2), keepdims=True) / 127
        rounded = np.round(rows / scale) * scale
        old, new = (graph.constant(one.shifts[0]) for graph in (plain, changed))
        assert old is not None
        assert new is not None
        wanted = rows.sum(2) @ mean + old.reshape(-1)
        # biases are float32, and a weight halfway between two integers may go the other way: a thousandth of the span
        assert rounded.sum(2) @ mean + new.reshape(-1) == pytest.approx(wanted, abs=1e-3 * float(np.ptp(wanted)))


def test_a_layer_kept_in_float_keeps_its_bias(files: Mapping[Format, Artifact]) -> None:
    """Nothing of it is rounded, so there is nothing to take off."""
    onnx = pytest.importorskip("onnx")
    layered = prepare(files[Format.ONNX]).linear_graph()
    graph = layered.model
    layers = [node for node in graph.graph.node if node.op_type == "Conv" and len(node.input) == 3]
    kept = layers[0]
    channels = {
        item.name: onnx.numpy_helper.to_array(item).shape[1] for item in graph.graph.initializer if item.dims[1:]
    }
    means = {node.input[0]: np.ones(channels[node.input[1]]) for node in layers}

    def biases() -> dict[str, bytes]:
        return {item.name: onnx.numpy_helper.to_array(item).tobytes() for item in graph.graph.initializer}

    before = biases()
    assert correct_biases(layered, means, keep_float=[kept.name]) > 0
    changed = {name for name, value in biases().items() if value != before[name]}
    assert changed
    assert kept.input[2] not in changed
