"""Recurrent operators of TFLite files on integers: what is written, and that each runtime computes what is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from edgekit.artifact import open_artifact
from edgekit.devices import open_runner
from edgekit.graph.tflite import read_tflite
from edgekit.passes import PassContext
from edgekit.quality.contents import operators
from edgekit.quality.coverage import coverage
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.cell_states import cell_states
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.tflite.quantize import SCHEMES, QuantizeTflite
from edgekit.quantization.tflite.recurrent import cell_scale, quantize_recurrent
from edgekit.runtime import load
from edgekit.types import Array, Format, PassResult

from ...combinations import pairs
from ..tflite_files import FEATURES, HIDDEN, recurrent_file, weights

pytestmark = pytest.mark.usefixtures("kept_workers")

INT8, INT16, INT32, FLOAT16 = 9, 7, 2, 1
ERROR = {"int8": 0.04, "int8-dynamic": 0.03, "fp16": 2e-3}
"""Of outputs within -1..1. int8 weights: half a step of 1/254 of the largest, over 14 products and 20 steps, some 0.01;
int8 states add half a step of 1/128 each. float16 has 11 bits. The rest holds int8 weights: 0.03."""


def sequences(count: int, steps: int = 20, batch_first: bool = True) -> list[dict[str, Array]]:
    """Feeds of smooth random walks within about -3..3."""
    random = np.random.default_rng(3)
    walks = random.standard_normal((count, 1, steps, FEATURES)).cumsum(2).astype(np.float32) / 2
    return [{"x": walk if batch_first else walk.swapaxes(0, 1)} for walk in walks]


def ranges_of(path: Path, feeds: list[dict[str, Array]]) -> Calibration:
    with load(path) as runner:
        return calibrate(path, feeds, runner.signature, format=Format.TFLITE)


def quantized(path: Path, target: Path, scheme: str, calibration: Calibration | None) -> PassResult:
    return QuantizeTflite(scheme, calibration).run(open_artifact(path), PassContext(target))


def outputs(path: Path, feeds: list[dict[str, Array]]) -> Array:
    with load(path) as runner:
        found = []
        for feed in feeds:
            runner.reset()
            found.append(runner.run(feed)["y"])
        return np.stack(found)


CASES: Mapping[str, tuple[str, int, bool, bool]] = {  # cell, layers, batch first, both directions
    "lstm": ("lstm", 2, True, False),
    "lstm_time_major": ("lstm", 1, False, False),
    "lstm_both": ("lstm", 2, True, True),
    "rnn": ("rnn_tanh", 2, True, True),
    "gru": ("gru", 2, False, False),
}


def made(folder: Path, case: str) -> tuple[Path, bool]:
    cell, count, batch_first, both = CASES[case]
    widths = [FEATURES, HIDDEN * (1 + both)][:count]
    layers = [weights(cell, width, seed) for seed, width in enumerate(widths)]
    path = recurrent_file(folder / f"{case}.tflite", cell, layers, batch_first=batch_first, both=both)
    return path, batch_first


@pytest.mark.parametrize(("case", "scheme"), pairs(CASES, SCHEMES))
def test_every_scheme_gives_what_the_float_file_gives(tmp_path: Path, case: str, scheme: str) -> None:
    path, batch_first = made(tmp_path, case)
    seen, new = sequences(16, batch_first=batch_first)[:12], sequences(16, batch_first=batch_first)[12:]
    quantized(path, tmp_path / "q.tflite", scheme, ranges_of(path, seen))
    error = np.abs(outputs(tmp_path / "q.tflite", new) - outputs(path, new)).max()
    allowed = 0.25 if (case, scheme) == ("gru", "int4-weights") else ERROR.get(scheme, 0.03)  # 4 bits: steps of 1/7
    assert 0 < error < allowed
    assert coverage(open_artifact(tmp_path / "q.tflite")).weight_bytes_integer_share > 0.4 or scheme == "fp16"


@pytest.mark.parametrize(
    ("case", "scheme"), pairs(["lstm_both", "rnn", "gru"], ["int8", "int8-dynamic", "int8-weights", "fp16"])
)
def test_the_old_runtime_gives_the_same(tmp_path: Path, other_python: str, case: str, scheme: str) -> None:
    """tflite-runtime 2.14. Its kernels are the same but for sums in another order; where integers are rounded while a
    file runs, one that falls the other way moves an output by some steps of 1/127."""
    path, batch_first = made(tmp_path, case)
    feeds = sequences(4, batch_first=batch_first)
    quantized(path, tmp_path / "q.tflite", scheme, ranges_of(path, feeds))
    here = outputs(tmp_path / "q.tflite", feeds)
    with open_runner(tmp_path / "q.tflite", device=f"python:{other_python}") as there:
        found = []
        for feed in feeds:
            there.reset()
            found.append(there.run(feed)["y"])
    assert np.abs(here).max() > 0.1
    assert np.abs(np.stack(found) - here).max() < (1e-5 if scheme in ("int8-weights", "fp16") else 0.02)


def test_an_integer_lstm_stays_in_integers_from_end_to_end(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "lstm_both")
    quantized(path, tmp_path / "q.tflite", "int8", ranges_of(path, sequences(8)))
    counted = operators(open_artifact(tmp_path / "q.tflite"))
    assert counted.pop("UNIDIRECTIONAL_SEQUENCE_LSTM") == 3
    # one conversion on the way in, one on the way out; the second of the first layer reads the same integers backwards
    assert counted == {"QUANTIZE": 1, "REVERSE_V2": 2, "CONCATENATION": 1, "DEQUANTIZE": 1}
    found = coverage(open_artifact(tmp_path / "q.tflite"))
    assert (found.integer_operators, found.hybrid_operators, found.left_float) == (found.operators, 0, ())
    assert found.weight_bytes_integer_share == 1.0


def test_the_numbers_of_an_integer_lstm(tmp_path: Path) -> None:
    """Types and scales as TensorFlow Lite's integer kernel reads them."""
    own = weights("lstm", FEATURES, 0)
    path = recurrent_file(tmp_path / "m.tflite", "lstm", [own])
    calibration = ranges_of(path, sequences(8))
    quantized(path, tmp_path / "q.tflite", "int8", calibration)
    graph = read_tflite(tmp_path / "q.tflite").subgraphs[0]
    (node,) = [op for op in graph.operators if len(op.inputs) == 24]
    tensors = [graph.tensors[k] for k in node.inputs]
    scale = [None if t.quantization is None else float(t.quantization.scale[0]) for t in tensors]
    assert [t.type for t in tensors[:9]] == [INT8] * 9 and [t.type for t in tensors[12:16]] == [INT32] * 4
    assert scale[1] == pytest.approx(np.abs(own[0][:HIDDEN]).max() / 127, rel=1e-6)
    assert scale[5] == pytest.approx(np.abs(own[1][:HIDDEN]).max() / 127, rel=1e-6)
    assert scale[12] == pytest.approx(scale[0] * scale[1], rel=1e-6)
    seen = calibration.ranges["l0/c_state"]
    assert tensors[19].type == INT16
    assert scale[19] * 2**15 / 2 < max(-seen.low, seen.high) <= scale[19] * 2**15
    gates, (hidden,) = node.intermediates[:4], node.intermediates[4:]
    assert {float(graph.tensors[k].quantization.scale[0]) for k in gates} == {2.0**-12}
    assert {tuple(graph.tensors[k].shape) for k in node.intermediates} == {(0,)}, "tflite-micro takes no others"
    output = graph.tensors[node.outputs[0]].quantization
    for other in (graph.tensors[hidden], tensors[18]):
        assert other.quantization.scale[0] == output.scale[0]
        assert other.quantization.zeroPoint[0] == output.zeroPoint[0]


@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic", "int8-weights", "fp16"])
@pytest.mark.parametrize(("cell", "both"), [("lstm", True), ("rnn_tanh", False), ("gru", False)])
def test_a_length_that_is_free_stays_free(tmp_path: Path, cell: str, both: bool, scheme: str) -> None:
    """Calibrated at one length, run at others."""
    batch_first = cell != "gru"
    axis = 1 if batch_first else 0
    layers = [weights(cell, FEATURES, 0), weights(cell, HIDDEN * (1 + both), 1)]
    path = recurrent_file(tmp_path / "m.tflite", cell, layers, steps=-1, both=both, batch_first=batch_first)
    quantized(path, tmp_path / "q.tflite", scheme, ranges_of(path, sequences(8, batch_first=batch_first)))
    for steps in (1, 7, 60):
        feeds = [{"x": np.take(feed["x"], range(steps), axis, mode="wrap")} for feed in sequences(2, 20, batch_first)]
        error = np.abs(outputs(tmp_path / "q.tflite", feeds) - outputs(path, feeds)).max()
        assert error < 1.5 * ERROR.get(scheme, 0.03), steps  # 60 steps instead of 20


@pytest.mark.parametrize("broken", ["cell", "output"])
def test_a_wrong_range_shows(tmp_path: Path, broken: str) -> None:
    """The comparison above can fail: a range that is too small cuts the values off."""
    path = recurrent_file(tmp_path / "m.tflite", "lstm", [weights("lstm", FEATURES, 0)])
    feeds = sequences(8)
    calibration = ranges_of(path, feeds)
    name = "l0/c_state" if broken == "cell" else "y"
    old = calibration.ranges[name]
    cut = {**calibration.ranges, name: Range(old.low / 8, old.high / 8)}
    quantized(path, tmp_path / "q.tflite", "int8", replace(calibration, ranges=cut))
    assert np.abs(outputs(tmp_path / "q.tflite", feeds) - outputs(path, feeds)).max() > 3 * ERROR["int8"]


def test_cell_states_are_those_of_torch_at_every_step(tmp_path: Path) -> None:
    own = weights("lstm", FEATURES, 0)
    path = recurrent_file(tmp_path / "m.tflite", "lstm", [own], batch_first=False)
    x = sequences(1, batch_first=False)[0]["x"]
    found = cell_states(path.read_bytes())(lambda number: x)["l0/c_state"]
    cell = torch.nn.LSTMCell(FEATURES, HIDDEN)
    with torch.no_grad():
        for parameter, value in zip(cell.parameters(), [*own, np.zeros_like(own[2])], strict=True):
            parameter.copy_(torch.from_numpy(value))
        state = None
        for t, row in enumerate(x):
            state = cell(torch.from_numpy(row), state)
            # float32 rounding of values below 4, carried through 20 steps
            assert np.abs(state[1].numpy() - found[t]).max() < 1e-5


def test_cell_states_are_those_of_the_runtime(tmp_path: Path) -> None:
    path = recurrent_file(tmp_path / "m.tflite", "lstm", [weights("lstm", FEATURES, 0)])
    x = sequences(1)[0]["x"]
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    row = next(row for row in interpreter.get_tensor_details() if row["name"] == "l0/c_state")
    last = cell_states(path.read_bytes())(interpreter.get_tensor)["l0/c_state"][-1]
    assert np.abs(interpreter.get_tensor(row["index"]) - last).max() < 1e-5  # as above


def test_calibration_starts_every_sequence_anew(tmp_path: Path) -> None:
    """The state of one sample is not the beginning of the next: the order of the samples does not matter."""
    path = recurrent_file(tmp_path / "m.tflite", "lstm", [weights("lstm", FEATURES, 0)])
    feeds = sequences(4)
    assert ranges_of(path, feeds).ranges == ranges_of(path, feeds[::-1]).ranges


@pytest.mark.parametrize(
    ("reach", "bits"), [(0.0, 0), (0.7, 0), (1.0, 0), (1.01, 1), (8.0, 3), (33.0, 6), (64.0, 6), (64.5, None)]
)
def test_the_scale_of_a_cell_state(reach: float, bits: int | None) -> None:
    found = cell_scale(Range(-reach, reach / 2))
    assert (found is None) == (bits is None)
    assert found is None or found.step == 2.0 ** (bits or 0) / 2**15


def test_a_cell_state_beyond_the_kernel_is_hybrid_and_said(tmp_path: Path) -> None:
    """Gates held open and a steady input: the state counts the steps, to 100."""
    own = weights("lstm", FEATURES, 0, reach=0.01)
    own[2] = np.repeat(np.array([9, 9, 3, 0], np.float32), HIDDEN)
    path = recurrent_file(tmp_path / "m.tflite", "lstm", [own], steps=100)
    result = quantized(path, tmp_path / "q.tflite", "int8", ranges_of(path, sequences(2, steps=100)))
    assert any("l0: its cell state reaches 9" in note and "64" in note for note in result.notes)
    found = coverage(open_artifact(tmp_path / "q.tflite"))
    assert found.hybrid_operators == 1 and found.left_float == ()


def test_what_cannot_be_integer_is_named(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "rnn")
    result = quantized(path, tmp_path / "q.tflite", "int8", ranges_of(path, sequences(2)))
    (note,) = [note for note in result.notes if "no integer kernel of UNIDIRECTIONAL_SEQUENCE_RNN" in note]
    assert note.startswith("l0, l0_reverse, l1: ")
    path, _ = made(tmp_path, "gru")
    quantized(path, tmp_path / "g.tflite", "int8", ranges_of(path, sequences(2, batch_first=False)))
    found = coverage(open_artifact(tmp_path / "g.tflite"))
    assert {left.reason for left in found.left_float} == {"its inputs are float, inside a loop or branch"}
    assert found.hybrid_operators == 2, "the products with the state, in the loops"
    assert "WHILE" not in {left.operator for left in found.left_float}, "a loop is its operators"


def test_a_file_without_recurrent_operators_is_left_alone(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "gru")
    content = path.read_bytes()
    assert quantize_recurrent(content, "int8", {}).content is content
