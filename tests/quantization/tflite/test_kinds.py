"""Kinds of TFLite files that people have: quantized, they still compute what they did, in the bare interpreter.

Random weights, so limits are about arithmetic: int8 keeps 20 dB and more of such small networks, a wrong graph 10 at
most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.artifact import open_artifact
from edgekit.errors import UnsupportedError
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.passes import PassContext
from edgekit.quality.coverage import coverage, quantized_already
from edgekit.quality.half_weights import half_weights
from edgekit.quantization.calibrate.observe import calibrate, tflite_tensors
from edgekit.quantization.exclusions import DIVIDES, LAST, MASKED, UNEVEN
from edgekit.quantization.tflite.integers import half
from edgekit.quantization.tflite.quantize import SCHEMES, QuantizeTflite
from edgekit.runtime import load
from edgekit.types import Array, Feed

from ..onnx_files import decibels, normal
from ..tflite_files import dense_file, put, tflite_file

pytestmark = pytest.mark.usefixtures("kept_workers")

LEAST = 20.0
STATIC = ("int8", "int16x8")


def run_tflite(path: Path, feed: Feed) -> list[Array]:
    """All outputs in the order of the file, by the interpreter alone."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    for row in interpreter.get_input_details():
        interpreter.set_tensor(row["index"], feed[row["name"]])
    interpreter.invoke()
    return [interpreter.get_tensor(row["index"]).copy() for row in interpreter.get_output_details()]


def quantized(path: Path, scheme: str, feeds: list[Feed], **options: Any) -> Path:
    artifact, target = open_artifact(path), path.with_suffix(f".{scheme}.tflite")
    if scheme in STATIC:
        with load(path) as runner:
            signature = runner.signature
        options["calibration"] = calibrate(path, feeds, signature, format=artifact.format)
    QuantizeTflite(scheme, **options).run(artifact, PassContext(target))
    return target


def feeds(*shape: int, count: int = 256, seed: int = 1, name: str = "x") -> list[Feed]:
    return [{name: normal(seed + k, *shape)} for k in range(count)]


def judged(path: Path, scheme: str, *shape: int, **options: Any) -> float:
    """Signal to noise of the worst output on feeds that did not calibrate."""
    made = quantized(path, scheme, feeds(*shape), **options)
    fresh = feeds(*shape, seed=900, count=4)
    return min(decibels(run_tflite(path, feed), run_tflite(made, feed)) for feed in fresh)


def left(path: Path, made: Path, scheme: str, given: list[Feed]) -> Mapping[str, str]:
    """Operator that stays in float -> the reason that the account has."""
    with load(path) as runner:
        ranges = calibrate(path, given, runner.signature, format=open_artifact(path).format)
    again = PassContext(path.with_suffix(".again.tflite"))
    reasons = QuantizeTflite(scheme, ranges).run(open_artifact(path), again).left_in_float
    rows = coverage(open_artifact(made), reasons).left_float
    return {row.operator: row.reason for row in rows}


def dense(graph: Graph, source: int, rows: int, columns: int, name: str, seed: int = 0) -> int:
    weights = graph.constant(f"{name}_w", normal(seed, rows, columns, by=columns**-0.5))
    return put(graph, "FULLY_CONNECTED", [source, weights], name, [1, rows], "FullyConnectedOptions")


def pooled(lowest: float) -> Callable[[Graph], None]:
    """A padded max-pool as torch's exporter writes it, between two convolutions."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 8, 8, 3])
        conv = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
        first = [x, graph.constant("w", normal(0, 8, 3, 3, 3, by=0.3)), graph.constant("b", np.zeros(8, np.float32))]
        a = put(graph, "CONV_2D", first, "a", [1, 8, 8, 8], "Conv2DOptions", **conv)
        r = put(graph, "RELU", [a], "r", [1, 8, 8, 8])
        pad = [r, graph.constant("p", [[0, 0], [1, 1], [1, 1], [0, 0]], "int32"), graph.constant("low", lowest)]
        d = put(graph, "PADV2", pad, "d", [1, 10, 10, 8], "PadV2Options")
        pool = {"padding": 1, "strideW": 2, "strideH": 2, "filterWidth": 3, "filterHeight": 3}
        m = put(graph, "MAX_POOL_2D", [d], "m", [1, 4, 4, 8], "Pool2DOptions", **pool)
        second = [m, graph.constant("v", normal(1, 8, 1, 1, 8)), graph.constant("c", np.ones(8, np.float32))]
        y = put(graph, "CONV_2D", second, "y", [1, 4, 4, 8], "Conv2DOptions", **conv)
        graph.raw.inputs, graph.raw.outputs = [x], [y]

    return build


@pytest.mark.parametrize("lowest", [-np.inf, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("scheme", STATIC)
def test_a_padded_max_pool_is_integer_throughout(tmp_path: Path, scheme: str, lowest: float) -> None:
    path = tflite_file(tmp_path / "m.tflite", pooled(lowest))
    assert judged(path, scheme, 1, 8, 8, 3) > LEAST
    assert coverage(open_artifact(quantized(path, scheme, feeds(1, 8, 8, 3)))).left_float == ()


def test_a_difference_that_is_wider_than_both_sides(tmp_path: Path) -> None:
    """Of two tensors of -1 to 1: three scales that are powers of two have a kernel that does not take it. So a step of
    a GRU has it, h - n."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 16])
        sides = [
            put(graph, "TANH", [one], f"tanh{k}", [1, 16]) for k, one in enumerate((x, dense(graph, x, 16, 16, "d")))
        ]
        y = put(graph, "SUB", sides, "y", [1, 16], "SubOptions")
        graph.raw.inputs, graph.raw.outputs = [x], [y]

    path = tflite_file(tmp_path / "m.tflite", build)
    wide = [{"x": 4 * feed["x"]} for feed in feeds(1, 16)]
    made = quantized(path, "int16x8", wide)
    fresh = [{"x": 4 * feed["x"]} for feed in feeds(1, 16, seed=900, count=4)]
    assert min(decibels(run_tflite(path, feed), run_tflite(made, feed)) for feed in fresh) > LEAST


@pytest.mark.parametrize("mask", [-np.inf, -1e9])
@pytest.mark.parametrize("scheme", STATIC)
def test_a_mask_stays_in_float(tmp_path: Path, scheme: str, mask: float) -> None:
    """A softmax of 16 bits that meets infinity ends the process."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 16])
        values = np.where(np.arange(16) % 3 == 0, mask, 0).astype(np.float32)
        a = dense(graph, x, 16, 16, "a")
        m = put(graph, "ADD", [a, graph.constant("mask", values)], "m", [1, 16], "AddOptions")
        s = put(graph, "SOFTMAX", [m], "s", [1, 16], "SoftmaxOptions", beta=1.0)
        graph.raw.inputs, graph.raw.outputs = [x], [dense(graph, s, 24, 16, "y", 1)]

    path = tflite_file(tmp_path / "m.tflite", build)
    assert judged(path, scheme, 1, 16) > 15  # peaks of a softmax beyond those that calibrated
    made = quantized(path, scheme, feeds(1, 16))
    assert left(path, made, scheme, feeds(1, 16)) == {"ADD": MASKED, "SOFTMAX": MASKED}


@pytest.mark.parametrize("scheme", STATIC)
def test_constants_beside_computed_tensors(tmp_path: Path, scheme: str) -> None:
    """Joined with it, compared with it, added without an axis: a token, a floor, a number."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 16])
        a = put(
            graph, "RESHAPE", [dense(graph, x, 32, 16, "a"), graph.constant("s", [1, 2, 16], "int32")], "b", [1, 2, 16]
        )
        token = [graph.constant("token", normal(5, 1, 1, 16)), a]
        c = put(graph, "CONCATENATION", token, "c", [1, 3, 16], "ConcatenationOptions", axis=1)
        floor = [c, graph.constant("floor", np.full((1, 1, 1), -0.5, np.float32))]
        d = put(graph, "MAXIMUM", floor, "d", [1, 3, 16], "MaximumMinimumOptions")
        e = put(graph, "ADD", [d, graph.constant("number", np.float32(0.7))], "e", [1, 3, 16], "AddOptions")
        f = put(graph, "RESHAPE", [e, graph.constant("t", [1, 48], "int32")], "f", [1, 48])
        graph.raw.inputs, graph.raw.outputs = [x], [dense(graph, f, 8, 48, "y", 2)]

    path = tflite_file(tmp_path / "m.tflite", build)
    assert judged(path, scheme, 1, 16) > LEAST
    assert coverage(open_artifact(quantized(path, scheme, feeds(1, 16)))).left_float == ()


@pytest.mark.parametrize("scheme", STATIC)
def test_a_quotient_stays_in_float(tmp_path: Path, scheme: str) -> None:
    """As integers the divisor rounds to zero, and the kernel ends the process."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 16])
        a, b = dense(graph, x, 16, 16, "a"), dense(graph, x, 16, 16, "b", 1)
        square = put(graph, "MUL", [b, b], "square", [1, 16], "MulOptions")
        c = put(graph, "ADD", [square, graph.constant("e", np.float32(1e-3))], "c", [1, 16], "AddOptions")
        q = put(graph, "DIV", [a, c], "q", [1, 16], "DivOptions")
        y = put(graph, "TANH", [q], "y", [1, 16])
        graph.raw.inputs, graph.raw.outputs = [x], [y]

    path = tflite_file(tmp_path / "m.tflite", build)
    made = quantized(path, scheme, feeds(1, 16))
    assert left(path, made, scheme, feeds(1, 16))["DIV"] == DIVIDES
    for feed in [{"x": np.zeros((1, 16), np.float32)}, *feeds(1, 16, seed=900, count=2)]:
        assert np.isfinite(run_tflite(made, feed)[0]).all()


def repeated(graph: Graph) -> None:
    """One tensor that is two outputs, and an output that is the input, with a signature."""
    x = graph.tensor("x", [1, 16])
    y = dense(graph, x, 24, 16, "y")
    graph.raw.inputs, graph.raw.outputs = [x], [y, y, x]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    entries = {"inputs": {"x": x}, "outputs": {"y": y, "again": y, "copy": x}}
    for side, names in entries.items():
        rows = []
        for name, tensor in names.items():
            row = schema.TensorMapT()
            row.name, row.tensorIndex = name, tensor
            rows.append(row)
        setattr(signature, side, rows)
    graph.editor.model.signatureDefs = [signature]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_outputs_that_are_inputs_or_given_twice(tmp_path: Path, scheme: str) -> None:
    path = tflite_file(tmp_path / "m.tflite", repeated)
    made = quantized(path, scheme, feeds(1, 16))
    feed = feeds(1, 16, seed=900)[0]
    runner = Interpreter(str(made), num_threads=1).get_signature_runner("serving_default")
    found = runner(**feed)
    wanted = run_tflite(path, feed)
    for name, value in zip(("y", "again", "copy"), wanted, strict=True):
        assert decibels([value], [found[name]]) > (12 if scheme == "int4-weights" else LEAST)


def test_scores_beside_boxes_keep_their_digits(tmp_path: Path) -> None:
    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 32])
        b = put(graph, "LOGISTIC", [dense(graph, x, 4, 32, "a")], "b", [1, 4])
        pixels = put(graph, "MUL", [b, graph.constant("size", np.float32(640))], "pixels", [1, 4], "MulOptions")
        scores = put(graph, "LOGISTIC", [dense(graph, x, 10, 32, "c", 1)], "scores", [1, 10])
        joined = put(graph, "CONCATENATION", [pixels, scores], "j", [1, 14], "ConcatenationOptions", axis=1)
        y = put(graph, "RESHAPE", [joined, graph.constant("s", [14, 1], "int32")], "y", [14, 1])
        graph.raw.inputs, graph.raw.outputs = [x], [y]

    path = tflite_file(tmp_path / "m.tflite", build)
    made = quantized(path, "int8", feeds(1, 32))
    assert left(path, made, "int8", feeds(1, 32)) == {"CONCATENATION": UNEVEN, "RESHAPE": UNEVEN}
    for feed in feeds(1, 32, seed=900, count=4):
        (wanted,), (found,) = run_tflite(path, feed), run_tflite(made, feed)
        assert decibels([wanted[4:]], [found[4:]]) > LEAST


def test_an_output_that_is_scaled_by_an_input_is_not_cut_off(tmp_path: Path) -> None:
    def build(graph: Graph) -> None:
        x, factor = graph.tensor("x", [1, 32]), graph.tensor("factor", [1, 1])
        y = put(graph, "MUL", [dense(graph, x, 32, 32, "a"), factor], "y", [1, 32], "MulOptions")
        graph.raw.inputs, graph.raw.outputs = [x, factor], [y]

    path = tflite_file(tmp_path / "m.tflite", build)
    given = [{"x": normal(k, 1, 32), "factor": np.full((1, 1), 2, np.float32)} for k in range(32)]
    made = quantized(path, "int8", given)
    assert left(path, made, "int8", given) == {"MUL": LAST}
    feed = {"x": normal(3, 1, 32), "factor": np.full((1, 1), 9, np.float32)}
    assert decibels(run_tflite(path, feed), run_tflite(made, feed)) > LEAST


def test_tensors_of_one_name_have_ranges_of_their_own(tmp_path: Path) -> None:
    """Calibration knew one of them, and the other was quantized by its range."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 16])
        large = put(graph, "MUL", [x, graph.constant("k", np.float32(100))], "same", [1, 16], "MulOptions")
        a = dense(graph, large, 16, 16, "a")
        small = put(graph, "MUL", [a, graph.constant("l", np.float32(1e-3))], "same", [1, 16], "MulOptions")
        graph.raw.inputs, graph.raw.outputs = [x], [dense(graph, small, 8, 16, "y", 1)]

    assert judged(tflite_file(tmp_path / "m.tflite", build), "int8", 1, 16) > LEAST


@pytest.mark.parametrize("scheme", SCHEMES)
def test_files_of_the_old_schema(tmp_path: Path, scheme: str) -> None:
    """Before 2020 an operator's number stood in another field, and the new one reads as ADD."""
    path = tflite_file(tmp_path / "m.tflite", pooled(-np.inf))
    editor = Editor(path.read_bytes())
    for code in editor.model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    path.write_bytes(editor.content())
    assert all(code.builtinCode == 0 for code in raw_codes(path))
    assert judged(path, scheme, 1, 8, 8, 3) > (12 if scheme == "int4-weights" else LEAST)


def raw_codes(path: Path) -> list[Any]:
    return list(schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).operatorCodes)


def test_half_precision_keeps_what_it_cannot_hold(tmp_path: Path) -> None:
    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 64])
        tiny = graph.constant("w", normal(0, 64, 64, by=1e-8))
        a = put(graph, "FULLY_CONNECTED", [x, tiny], "a", [1, 64], "FullyConnectedOptions")
        b = put(graph, "MUL", [a, graph.constant("k", np.float32(1e8))], "b", [1, 64], "MulOptions")
        graph.raw.inputs, graph.raw.outputs = [x], [dense(graph, b, 64, 64, "y", 1)]

    assert judged(tflite_file(tmp_path / "m.tflite", build), "fp16", 1, 64) > 60
    one = dense_file(tmp_path / "one.tflite", normal(0, 64, 64, by=1e-8))
    with pytest.raises(UnsupportedError, match="no weight can be float16"):
        quantized(one, "fp16", [])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_of_infinity_stay_in_float(tmp_path: Path, scheme: str) -> None:
    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 32])
        rows = normal(0, 16, 32)
        rows[3] = -np.inf
        w = graph.constant("w", rows)
        a = put(graph, "FULLY_CONNECTED", [x, w], "a", [1, 16], "FullyConnectedOptions")
        s = put(graph, "SOFTMAX", [a], "s", [1, 16], "SoftmaxOptions", beta=1.0)
        graph.raw.inputs, graph.raw.outputs = [x], [dense(graph, s, 8, 16, "y", 1)]

    path = tflite_file(tmp_path / "m.tflite", build)
    given = [{"x": np.abs(normal(k, 1, 32))} for k in range(24)]
    made = quantized(path, scheme, given)
    for feed in given[:3]:
        assert decibels(run_tflite(path, feed), run_tflite(made, feed)) > (12 if scheme == "int4-weights" else LEAST)


def widened(graph: Graph, name: str, weights: Array) -> int:
    """A float16 constant behind DEQUANTIZE."""
    made = graph.tensor(name, weights.shape)
    graph.operator("DEQUANTIZE", [half(graph, f"{name}_half", weights)], [made], version=2)
    return made


def halves(graph: Graph) -> None:
    """``x`` -> two products with weights in float16, as MediaPipe's files have them -> ``y``."""
    x = graph.tensor("x", [1, 64])
    first, second = (widened(graph, name, normal(k, 64, 64, by=0.125)) for k, name in enumerate("vw"))
    a = put(graph, "FULLY_CONNECTED", [x, first], "a", [1, 64], "FullyConnectedOptions")
    b = put(graph, "RELU", [a], "b", [1, 64])
    graph.raw.inputs = [x]
    graph.raw.outputs = [put(graph, "FULLY_CONNECTED", [b, second], "y", [1, 64], "FullyConnectedOptions")]


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "fp16"])
def test_weights_of_half_precision_are_those_of_a_float_file(tmp_path: Path, scheme: str) -> None:
    path = tflite_file(tmp_path / "m.tflite", halves)
    assert quantized_already(open_artifact(path)) == ""
    assert judged(path, scheme, 1, 64) > (12 if scheme == "int4-weights" else LEAST)
    made = quantized(path, scheme, feeds(1, 64))
    assert coverage(open_artifact(made)).weight_bytes_integer_share == 1.0
    assert made.stat().st_size < 0.75 * path.stat().st_size


def test_weights_that_stay_in_float_stay_in_half_precision(tmp_path: Path) -> None:
    path = tflite_file(tmp_path / "m.tflite", halves)
    made = quantized(path, "int8-weights", [], keep_float=frozenset({"a"}))
    assert made.stat().st_size < path.stat().st_size  # in float32 they alone are as large as the parent
    kept = half_weights(open_artifact(made))
    assert [widened for _, widened in kept.items()] == [True]
    assert judged(path, "int8-weights", 1, 64, keep_float=frozenset({"a"})) > LEAST


def test_what_computes_in_half_precision_is_not_a_float_file(tmp_path: Path) -> None:
    def build(graph: Graph) -> None:
        x, w = graph.tensor("x", [64, 64], "float16"), half(graph, "w", normal(0, 64, 64))
        graph.raw.inputs, graph.raw.outputs = [x], [graph.made("ADD", [x, w], "y", [64, 64])]

    path = tflite_file(tmp_path / "m.tflite", build)
    assert quantized_already(open_artifact(path)) == "its weights are float16"


@pytest.mark.parametrize("kept", ["keep_float", "float_kernels"])
def test_a_constant_that_is_read_in_float_and_on_integers(tmp_path: Path, kept: str) -> None:
    """The library's copy for one of them has a name that it cannot extend."""

    def build(graph: Graph) -> None:
        x = graph.tensor("x", [1, 32])
        w = graph.constant("w", normal(0, 32, 32, by=0.2))
        for name in "aby":
            put(graph, "FULLY_CONNECTED", [x, w], name, [1, 32], "FullyConnectedOptions")
            x = len(graph.raw.tensors) - 1
        graph.raw.inputs, graph.raw.outputs = [0], [x]

    path = tflite_file(tmp_path / "m.tflite", build)
    assert judged(path, "int8", 1, 32, **{kept: frozenset({"b"})}) > LEAST


def test_the_list_of_metadata_of_old_files(tmp_path: Path) -> None:
    """It numbers buffers that move when others are dropped."""
    editor = Editor(tflite_file(tmp_path / "m.tflite", halves).read_bytes())
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"min_runtime_version", editor.buffer(np.zeros(16, np.uint8))
    editor.model.metadata, editor.model.metadataBuffer = [entry], [entry.buffer]
    (tmp_path / "m.tflite").write_bytes(editor.content())
    assert judged(tmp_path / "m.tflite", "int8", 1, 64, keep_float=frozenset({"a"})) > LEAST


def test_an_operator_that_only_a_delegate_has(tmp_path: Path) -> None:
    """MediaPipe's custom operators run inside XNNPACK, where no tensor can be seen."""

    def build(graph: Graph) -> None:
        x, y = graph.tensor("x", [1, 4]), graph.tensor("y", [1, 4])
        graph.operator("CUSTOM", [x], [y])
        graph.editor.model.operatorCodes[-1].customCode = b"Convolution2DTransposeBias"
        graph.raw.inputs, graph.raw.outputs = [x], [y]

    path = tflite_file(tmp_path / "m.tflite", build)
    with pytest.raises(UnsupportedError, match=r"own kernels.*Convolution2DTransposeBias.*int8-weights"):
        list(tflite_tensors(path, ["x"], feeds(1, 4, count=1)))
