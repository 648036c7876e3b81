"""Channels scaled: the float file computes the same, the int8 file is nearer, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgekit.artifact import open_artifact, sha256_file, write_card
from edgekit.errors import GateError
from edgekit.flatbuffer_reader import without_prefix
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.passes import Pass, PassContext
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Channels
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.equalize import (
    Scaled,
    best,
    channels_read,
    equalize,
    equalize_file,
    prove_equal,
    scale_channels,
)
from edgekit.quantization.linear_graph import LinearGraph
from edgekit.quantization.onnx.linear_graph import LinearOnnx
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.prepared import prepare
from edgekit.quantization.tflite.linear_graph import LinearTflite
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.runtime import load
from edgekit.types import Array, Artifact, Feed, Format

pytestmark = pytest.mark.usefixtures("kept_workers")

RNG = np.random.default_rng(0)
FORMATS = (Format.ONNX, Format.TFLITE)


def outputs(path: Path, feeds: list[Feed]) -> Array:
    with load(path) as runner:
        return np.concatenate([value.reshape(-1) for feed in feeds for value in runner.run(feed).values()])


def quantized(artifact: Artifact, feeds: list[Feed], target: Path) -> Path:
    with load(artifact.path) as runner:
        ranges = calibrate(artifact.path, feeds, runner.signature, format=artifact.format)
    made: Callable[[str, Calibration], Pass] = QuantizeOnnx if artifact.format is Format.ONNX else QuantizeTflite
    made("int8", ranges).run(artifact, PassContext(target))
    return target


def error(path: Path, exact: Array, feeds: list[Feed]) -> float:
    return float(np.sqrt(((outputs(path, feeds) - exact) ** 2).mean()) / exact.std())


def equalized(artifact: Artifact, feeds: list[Feed], target: Path) -> tuple[Scaled, ...]:
    graph = prepare(artifact).linear_graph()
    channels = channels_read(graph.scaling_groups())
    with load(artifact.path) as runner:
        calibrate(artifact.path, feeds, runner.signature, format=artifact.format, channels=channels)
    return equalize_file(graph, artifact, channels, feeds, target)


def hostile(artifact: Artifact, target: Path) -> Artifact:
    """The same function, its channels between two layers from e^-4 to e^4 of what they were."""
    graph = prepare(artifact).linear_graph()
    for group in graph.scaling_groups():
        scale_channels(graph, group, np.exp(RNG.uniform(-4, 4, group.channels)))
    graph.save(target)
    assert artifact.card is not None
    return write_card(target, artifact.card)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_hostile_network_is_as_good_as_before(
    files: Mapping[Format, Artifact], digit_feeds: list[Feed], tmp_path: Path, format_: Format
) -> None:
    spoilt = hostile(files[format_], tmp_path / f"hostile.{format_}")
    target = tmp_path / f"equal.{format_}"
    before = sha256_file(spoilt.path)
    scaled = equalized(spoilt, digit_feeds, target)
    made = open_artifact(target)
    assert made.card == spoilt.card
    assert sha256_file(spoilt.path) == before
    assert len(scaled) == 2  # one in each block
    assert all(one.spread > 30 and one.noise < 0.1 for one in scaled)
    exact = outputs(spoilt.path, digit_feeds)
    assert outputs(target, digit_feeds) == pytest.approx(exact, abs=1e-5 * float(np.abs(exact).max()))
    whole = error(quantized(files[format_], digit_feeds, tmp_path / f"q0.{format_}"), exact, digit_feeds)
    without = error(quantized(spoilt, digit_feeds, tmp_path / f"q1.{format_}"), exact, digit_feeds)
    with_it = error(quantized(made, digit_feeds, tmp_path / f"q2.{format_}"), exact, digit_feeds)
    assert with_it < without / 4
    assert with_it < 2 * whole


@pytest.mark.parametrize("format_", FORMATS)
def test_a_usual_network_is_left_alone(
    files: Mapping[Format, Artifact], digit_feeds: list[Feed], tmp_path: Path, format_: Format
) -> None:
    target = tmp_path / f"same.{format_}"
    assert equalized(files[format_], digit_feeds, target) == ()
    assert not target.exists()


@pytest.mark.parametrize("format_", FORMATS)
def test_the_proof_sees_a_wrong_scale(
    files: Mapping[Format, Artifact], digit_feeds: list[Feed], tmp_path: Path, format_: Format
) -> None:
    """One weight of one reader that was not scaled as the others."""
    graph = prepare(files[format_]).linear_graph()
    group = graph.scaling_groups()[0]
    scale_channels(graph, group, np.full(group.channels, 2.0))
    target = tmp_path / f"scaled.{format_}"
    graph.save(target)
    prove_equal(files[format_], open_artifact(target), digit_feeds)
    rows = graph.rows(group.readers[0])
    rows[0, 0, 0] += 0.01 * np.abs(rows).max()
    graph.change_rows(group.readers[0], rows)
    graph.save(target)
    with pytest.raises(GateError, match="differs from its parent's by"):
        prove_equal(files[format_], open_artifact(target), digit_feeds)


def test_by_hand() -> None:
    """Peaks 100 and 1, equal weights: at full strength the scales are 10 and 0.1, and both peaks are 10."""
    graph = LinearOnnx(two_products("Relu", np.ones((2, 2), np.float32)))
    (group,) = graph.scaling_groups()
    seen = Channels(axis=-1)
    seen.update(np.array([[100.0, 1.0], [0.0, 0.5]]))
    assert seen.peak.tolist() == [100, 1]
    assert seen.square == pytest.approx([5000, 0.625])
    found = best(graph, group, {group.readers[0].inputs[0]: seen})
    assert found is None  # the noise of the large channel is there with any scale, and equal weights count it as much
    quiet = np.array([[0.001, 0.001], [1.0, 1.0]], np.float32)  # the large channel hardly counts
    graph = LinearOnnx(two_products("Relu", quiet))
    (group,) = graph.scaling_groups()
    found = best(graph, group, {group.readers[0].inputs[0]: seen})
    assert found is not None
    scale, left = found
    assert scale[0] > 10 * scale[1]
    assert left < 0.1


def two_products(between: str, second: Array) -> Any:
    """x (2) @ identity + bias -> ``between`` -> @ second, as ONNX."""
    constants = {"w1": np.eye(len(second)), "b1": np.zeros(len(second)), "w2": second}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["p"], name="first"),
        helper.make_node("Add", ["p", "b1"], ["s"], name="bias"),
        helper.make_node(between, ["s"], ["r"], name="between"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], name="second"),
    ]
    return model(nodes, constants, [None, len(second)], [None, second.shape[1]])


def model(nodes: list[Any], constants: Mapping[str, Array], given: list[Any], made: list[Any]) -> Any:
    import onnx

    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return onnx.shape_inference.infer_shapes(built)


@pytest.mark.parametrize(
    ("between", "groups"), [("Relu", 1), ("LeakyRelu", 1), ("Sigmoid", 0), ("Tanh", 0), ("Neg", 0)]
)
def test_only_what_keeps_a_positive_factor_lies_between(between: str, groups: int) -> None:
    assert len(LinearOnnx(two_products(between, np.ones((4, 4), np.float32))).scaling_groups()) == groups


def _second_reader(model: Any) -> None:
    model.graph.node.append(helper.make_node("ReduceSum", ["r"], ["total"], name="total"))
    model.graph.output.append(helper.make_tensor_value_info("total", TensorProto.FLOAT, None))


def _seen_by_the_user(model: Any) -> None:
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))


def _shared_weight(model: Any) -> None:
    model.graph.node[3].input[1] = "w1"


def _one_number_for_all(model: Any) -> None:
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "b1"))


@pytest.mark.parametrize("change", [_second_reader, _seen_by_the_user, _shared_weight, _one_number_for_all])
def test_channels_that_something_else_sees_are_left_alone(change: Callable[[Any], None]) -> None:
    built = two_products("Relu", np.ones((4, 4), np.float32))
    assert len(LinearOnnx(built).scaling_groups()) == 1
    change(built)
    assert LinearOnnx(built).scaling_groups() == []


def _bounded(graph: Graph, node: Any) -> None:
    node.builtinOptions.fusedActivationFunction = 3  # RELU6


def _output(graph: Graph, node: Any) -> None:
    graph.raw.outputs = [*graph.raw.outputs, int(node.outputs[0])]


@pytest.mark.parametrize("change", [_bounded, _output])
def test_the_same_in_tflite(files: Mapping[Format, Artifact], change: Callable[[Graph, Any], None]) -> None:
    content = without_prefix(files[Format.TFLITE].path.read_bytes())
    groups = LinearTflite(content).scaling_groups()
    assert len(groups) == 2
    editor = Editor(content)
    graph = editor.main()
    names = [one.name for one in LinearTflite(content).operators]
    node = graph.raw.operators[names.index(groups[0].source.name)]
    assert graph.kind(node) == "CONV_2D"
    change(graph, node)
    assert [one.source.name for one in LinearTflite(editor.content()).scaling_groups()] == [groups[1].source.name]


def test_smoothing_behind_a_layer_norm(tmp_path: Path) -> None:
    """Outliers in two channels of a normalisation, as transformers have them: both products behind it read them."""
    width, gamma = 32, np.ones(32)
    gamma[[3, 20]] = 300.0
    first, second = (RNG.normal(size=(width, width)) for _ in range(2))
    first[[3, 20]], second[[3, 20]] = first[[3, 20]] / 300, second[[3, 20]] / 300
    constants = {"g": gamma, "b": RNG.normal(size=width), "w1": first, "w2": second}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "w1"], ["q"], name="query"),
        helper.make_node("MatMul", ["n", "w2"], ["k"], name="key"),
        helper.make_node("Concat", ["q", "k"], ["y"], name="both", axis=-1),
    ]
    path = tmp_path / "norm.onnx"
    save(model(nodes, constants, [1, 8, width], [1, 8, 2 * width]), str(path))
    feeds: list[Feed] = [{"x": RNG.normal(size=(1, 8, width)).astype(np.float32)} for _ in range(32)]
    artifact, target = open_artifact(path), tmp_path / "smooth.onnx"
    scaled = equalized(artifact, feeds, target)
    made = open_artifact(target)
    assert [(one.source, one.readers) for one in scaled] == [("norm", ("query", "key"))]
    exact = outputs(path, feeds)
    without = error(quantized(artifact, feeds, tmp_path / "q1.onnx"), exact, feeds)
    with_it = error(quantized(made, feeds, tmp_path / "q2.onnx"), exact, feeds)
    assert with_it < without / 5


def test_a_chain_of_layers_is_scaled_in_one_go() -> None:
    """The middle layer is a reader and a source: its rows are divided, its columns multiplied."""
    weights = [RNG.normal(size=(6, 6)).astype(np.float32) for _ in range(3)]
    skew = [np.exp(RNG.uniform(-4, 4, 6)) for _ in range(2)]
    constants = {
        "w0": weights[0] * skew[0],
        "w1": weights[1] / skew[0][:, None] * skew[1],
        "w2": weights[2] / skew[1][:, None],
    }
    names = ["x", "p0", "r0", "p1", "r1"]
    nodes = []
    for place in range(2):
        nodes.append(
            helper.make_node("MatMul", [names[2 * place], f"w{place}"], [names[2 * place + 1]], name=f"m{place}")
        )
        nodes.append(helper.make_node("Relu", [names[2 * place + 1]], [names[2 * place + 2]], name=f"r{place}"))
    nodes.append(helper.make_node("MatMul", ["r1", "w2"], ["y"], name="m2"))
    graph: LinearGraph = LinearOnnx(model(nodes, constants, [None, 6], [None, 6]))
    inputs = RNG.normal(size=(256, 6))

    def run() -> dict[str, Array]:
        found = {"r0": np.maximum(inputs @ weight_of("w0"), 0)}
        found["r1"] = np.maximum(found["r0"] @ weight_of("w1"), 0)
        return {**found, "y": found["r1"] @ weight_of("w2")}

    def weight_of(name: str) -> Array:
        value = graph.constant(name)
        assert value is not None
        return value.astype(np.float64)

    before = run()
    groups = graph.scaling_groups()
    assert [(one.source.name, [r.name for r in one.readers]) for one in groups] == [("m0", ["m1"]), ("m1", ["m2"])]
    channels = channels_read(groups)
    for name in channels:
        channels[name].update(before[name])
    scaled = equalize(graph, groups, channels)
    assert [one.source for one in scaled] == ["m0", "m1"]
    after, largest = run(), float(np.abs(before["y"]).max())
    assert after["y"] == pytest.approx(before["y"], rel=1e-4, abs=1e-5 * largest)  # weights are float32
    for name in ("r0", "r1"):
        spread = [np.ptp(np.log(values[name].max(0))) for values in (before, after)]
        assert spread[1] < spread[0] / 2


@pytest.mark.parametrize("computed", [False, True])
def test_slopes_that_are_computed_are_not_constants(computed: bool) -> None:
    """PReLU keeps a factor of what goes through it; a slope that is computed is what goes through it, too."""
    built = two_products("Relu", np.ones((4, 4), np.float32))
    built.graph.node[2].op_type = "PRelu"
    built.graph.initializer.append(numpy_helper.from_array(np.full(4, 0.25, np.float32), "slope"))
    if computed:
        built.graph.node.insert(0, helper.make_node("Identity", ["x"], ["x_slope"], name="slope_of_x"))
    built.graph.node[3 if computed else 2].input.append("x_slope" if computed else "slope")
    assert len(LinearOnnx(built).scaling_groups()) == (0 if computed else 1)
