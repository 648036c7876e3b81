"""LSTM and RNN layers that start every call from zeros: seen in the bare interpreter, many calls in a row, no reset."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.artifact import open_artifact
from edgekit.errors import GateError
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.passes import PassContext
from edgekit.quality.coverage import coverage
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.tflite import recurrent as quantize_recurrent
from edgekit.quantization.tflite.integers import Scale
from edgekit.quantization.tflite.quantize import SCHEMES, QuantizeTflite
from edgekit.quantization.tflite.state_reset import cancelled, cancelling, shut, shut_integers
from edgekit.quantization.tflite.stateless import is_stateless, stateful, stateless
from edgekit.runtime import load
from edgekit.types import Array, Format

from ...combinations import pairs
from ..tflite_files import FEATURES, HIDDEN, recurrent_file, weights

pytestmark = pytest.mark.usefixtures("kept_workers")

FLOAT = 5e-6
"""Of outputs within -1..1, or some tens for ReLU: sums of float32 in another order, and for tanh a state of 1e-7 in
place of 0."""
CASES = {  # cell, layers, batch first, both directions
    "lstm": ("lstm", 2, True, False),
    "lstm_time_major": ("lstm", 1, False, False),
    "lstm_both": ("lstm", 2, True, True),
    "tanh": ("rnn_tanh", 2, True, False),
    "tanh_time_major_both": ("rnn_tanh", 2, False, True),
    "relu": ("rnn_relu", 2, True, False),
}


def file_of(path: Path, case: str, *, steps: int = 20, reach: float = 0.4, inputs: float = 1.0) -> Path:
    """A stateful file; ``reach``: of its weights, those of the input multiplied by ``inputs``."""
    cell, count, batch_first, both = CASES[case]
    widths = [FEATURES, HIDDEN * (1 + both)][:count]
    layers = [weights(cell, width, seed, reach) for seed, width in enumerate(widths)]
    layers = [[w * np.float32(inputs), r, b] for w, r, b in layers]
    return recurrent_file(path, cell, layers, steps=steps, batch_first=batch_first, both=both)


def inputs_of(shape: list[int]) -> list[Array]:
    """Walks, zeros, and what is far larger than either."""
    random = np.random.default_rng(0)
    walks = [random.standard_normal(shape).cumsum(np.argmax(shape)) / 2 for _ in range(3)]
    return [np.float32(x) for x in (*walks, np.zeros(shape), 50 * walks[0], np.full(shape, -30))]


def opened(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def call(interpreter: Interpreter, x: Array) -> Array:
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(result["index"]).copy()


def each_alone(content: bytes, inputs: list[Array]) -> Array:
    """Outputs of a file that is opened anew for each input."""
    return np.stack([call(opened(content), x) for x in inputs])


def in_a_row(content: bytes, inputs: list[Array], calls: int = 60) -> list[tuple[int, Array]]:
    """Number of an input and what it gives, for many calls in any order of a file that is never reset."""
    interpreter, order = opened(content), np.random.default_rng(1).integers(len(inputs), size=calls)
    return [(int(k), call(interpreter, inputs[k])) for k in order]


def kinds_of(content: bytes) -> list[str]:
    graph = Graph(Editor(content), Editor(content).model.subgraphs[0])
    return [graph.kind(node) for node in graph.raw.operators]


@pytest.mark.parametrize("case", CASES)
def test_every_call_gives_what_the_first_gives(tmp_path: Path, case: str) -> None:
    before = file_of(tmp_path / "m.tflite", case).read_bytes()
    inputs = inputs_of([1, 20, FEATURES] if CASES[case][2] else [20, 1, FEATURES])
    wanted, after = each_alone(before, inputs), stateless(before)
    first = each_alone(after, inputs)
    assert np.abs(first - wanted).max() <= FLOAT * max(1.0, float(np.abs(wanted).max()))
    for k, found in in_a_row(after, inputs):
        assert np.array_equal(found, first[k])  # the same sums in the same order: a state left over is all that differs
    assert max(np.abs(found - wanted[k]).max() for k, found in in_a_row(before, inputs)) > 0.05  # what it is for


def test_what_is_added_and_taken_out_again(tmp_path: Path) -> None:
    before = file_of(tmp_path / "m.tflite", "lstm").read_bytes()
    after = stateless(before)
    added = kinds_of(after)
    lstm = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    # the second layer reads all steps of the first
    assert added == ["PAD", "PAD", "CONCATENATION", lstm, "PAD", "CONCATENATION", lstm, "SLICE"]
    back = stateful(after)
    assert kinds_of(back) == [lstm, lstm]
    names = [
        [graph.name(k) for k in range(len(graph.raw.tensors))]
        for graph in (editor.main() for editor in map(Editor, (before, back)))
    ]
    assert sorted(names[0]) == sorted(names[1])
    inputs = inputs_of([1, 20, FEATURES])
    assert np.array_equal(each_alone(back, inputs), each_alone(before, inputs))
    assert stateful(before) is before
    assert stateless(gru := file_of_loops(tmp_path)) is gru


def file_of_loops(folder: Path) -> bytes:
    """A file of layers that keep no state: a GRU, which is a loop."""
    return recurrent_file(folder / "gru.tflite", "gru", [weights("gru", FEATURES, 0)]).read_bytes()


@pytest.mark.parametrize("case", ["lstm", "tanh"])
def test_sequences_of_any_length(tmp_path: Path, case: str) -> None:
    before = file_of(tmp_path / "m.tflite", case, steps=-1).read_bytes()
    after = stateless(before)
    files = [opened(before), opened(after)]
    for steps in (3, 17, 1):
        for one in files:
            one.resize_tensor_input(one.get_input_details()[0]["index"], [1, steps, FEATURES])
            one.allocate_tensors()
        for x in inputs_of([1, steps, FEATURES]):
            files[0].reset_all_variables()
            assert np.abs(call(files[0], x) - call(files[1], x)).max() <= FLOAT


@pytest.mark.parametrize(("case", "scheme"), pairs(CASES, SCHEMES))
def test_quantized_files_stay_stateless(tmp_path: Path, case: str, scheme: str) -> None:
    """The quantized file alone is compared: what the scheme costs is measured elsewhere. The state that a tanh layer of
    int8 weights begins with is 1 / (4 * 127 * 127) of what the weights of the state add up to, at most, and not 0."""
    given, made, kept = (tmp_path / f"{name}.tflite" for name in ("given", "made", "kept"))
    large = 8.0 if case.startswith("lstm") else 1.0  # integers would take too much more of small ones
    file_of(given, case, steps=60, inputs=large)
    shape = [1, 60, FEATURES] if CASES[case][2] else [60, 1, FEATURES]
    inputs = inputs_of(shape)[:4]
    with load(given) as runner:
        ranges = calibrate(given, [{"x": x} for x in inputs], runner.signature, format=Format.TFLITE)
    given.write_bytes(stateless(given.read_bytes()))
    with load(given) as runner:
        assert (
            calibrate(given, [{"x": x} for x in inputs], runner.signature, format=Format.TFLITE).ranges == ranges.ranges
        )
    QuantizeTflite(scheme, ranges).run(open_artifact(given), PassContext(made))
    QuantizeTflite(scheme, ranges, stateful=True).run(open_artifact(given), PassContext(kept))
    integers = scheme == "int8" and case.startswith("lstm")
    assert not integers or coverage(open_artifact(made)).hybrid_operators == 0
    wanted, first = (each_alone(path.read_bytes(), inputs) for path in (kept, made))
    step = 2 / 127 if scheme == "int8" else 5e-3
    assert np.abs(first - wanted).max() <= step * max(1.0, float(np.abs(wanted).max()))
    for k, found in in_a_row(made.read_bytes(), inputs):
        assert np.array_equal(found, first[k])
    assert max(np.abs(found - wanted[k]).max() for k, found in in_a_row(kept.read_bytes(), inputs)) > 0.05


def test_rows_that_differ_have_scales_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of each gate weighs 100 times as much as the others, one nothing: with one scale a matrix the others are
    rounded to nothing. The gates shut all the same."""
    given, made = tmp_path / "given.tflite", tmp_path / "made.tflite"
    layers = [weights("lstm", width, seed) for seed, width in enumerate((FEATURES, HIDDEN))]
    for w, _, _ in layers:
        w[::HIDDEN] *= 100
        w[3::HIDDEN] = 0
    recurrent_file(given, "lstm", layers, steps=20)
    inputs = inputs_of([1, 20, FEATURES])
    wanted = each_alone(given.read_bytes(), inputs)
    given.write_bytes(stateless(given.read_bytes()))

    def worst() -> float:
        QuantizeTflite("int8-weights").run(open_artifact(given), PassContext(made))
        first = each_alone(made.read_bytes(), inputs)
        for k, found in in_a_row(made.read_bytes(), inputs):
            assert np.array_equal(found, first[k])
        return float(np.abs(first - wanted).max())

    by_row = worst()
    assert by_row < 0.1  # half a step of 50 / 127 of the heavy row, times inputs of some units, in the sum of a gate
    monkeypatch.setattr(quantize_recurrent, "ROWS_GAIN", np.inf)
    assert worst() > 5 * by_row


def test_integers_forget_any_state(tmp_path: Path) -> None:
    """Every unit at either end of its range, which no sequence reaches: the bound holds for those, too."""
    given, made = tmp_path / "given.tflite", tmp_path / "made.tflite"
    file_of(given, "lstm", steps=60, inputs=8.0)
    inputs = inputs_of([1, 60, FEATURES])[:3]
    with load(given) as runner:
        ranges = calibrate(given, [{"x": x} for x in inputs], runner.signature, format=Format.TFLITE)
    given.write_bytes(stateless(given.read_bytes()))
    QuantizeTflite("int8", ranges).run(open_artifact(given), PassContext(made))
    first, interpreter, random = (
        each_alone(made.read_bytes(), inputs),
        opened(made.read_bytes()),
        np.random.default_rng(2),
    )
    states = [row for row in interpreter.get_tensor_details() if row["name"].endswith("_state")]
    assert [row["dtype"] for row in states] == [np.int8, np.int16] * 2
    for _ in range(30):
        for row in states:
            ends = np.iinfo(row["dtype"])
            interpreter.tensor(row["index"])()[:] = random.choice([ends.min, ends.max], row["shape"])
        assert np.array_equal(call(interpreter, inputs[0]), first[0])


def test_integers_that_would_cost_too_much_are_hybrid_or_refused(tmp_path: Path) -> None:
    """Small weights need many inputs to shut a gate. Integers from end to end are refused where they were asked for."""
    given, made = file_of(tmp_path / "given.tflite", "lstm", reach=0.1), tmp_path / "made.tflite"
    inputs = inputs_of([1, 20, FEATURES])[:3]
    with load(given) as runner:
        ranges = calibrate(given, [{"x": x} for x in inputs], runner.signature, format=Format.TFLITE)
    given.write_bytes(stateless(given.read_bytes()))
    done = QuantizeTflite("int8", ranges).run(open_artifact(given), PassContext(made))
    assert any(re.search(r"l0, l1: in integers .* times the multiply-adds, 1\.3 are .*hybrid", n) for n in done.notes)
    first = each_alone(made.read_bytes(), inputs)
    assert all(np.array_equal(found, first[k]) for k, found in in_a_row(made.read_bytes(), inputs))
    with pytest.raises(GateError, match=r"times the multiply-adds, 1\.3 are allowed.*--stateful keeps the state"):
        QuantizeTflite("int8", ranges, integer_io=True).run(open_artifact(given), PassContext(made))
    QuantizeTflite("int8", ranges, integer_io=True, stateful=True).run(open_artifact(given), PassContext(made))
    assert not is_stateless(made) and coverage(open_artifact(made)).hybrid_operators == 0


def test_a_state_that_outweighs_the_gates_is_hybrid_or_refused(tmp_path: Path) -> None:
    given, made = file_of(tmp_path / "given.tflite", "lstm", reach=3.0), tmp_path / "made.tflite"
    inputs = inputs_of([1, 20, FEATURES])[:3]
    with load(given) as runner:
        ranges = calibrate(given, [{"x": x} for x in inputs], runner.signature, format=Format.TFLITE)
    given.write_bytes(stateless(given.read_bytes()))
    done = QuantizeTflite("int8", ranges).run(open_artifact(given), PassContext(made))
    assert any("outweigh the 8 that shuts an integer gate" in note for note in done.notes)
    with pytest.raises(GateError, match=r"outweigh the 8 .*--stateful keeps the state"):
        QuantizeTflite("int8", ranges, integer_io=True).run(open_artifact(given), PassContext(made))


def test_layers_that_cannot_be_put_back_are_refused(tmp_path: Path) -> None:
    editor = Editor(file_of(tmp_path / "m.tflite", "tanh").read_bytes())
    editor.model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 0  # none: h grows without bound
    with pytest.raises(GateError, match=r"UNIDIRECTIONAL_SEQUENCE_RNN at 'y0' keeps a state .* --stateful keeps"):
        stateless(editor.content())
    editor = Editor(file_of(tmp_path / "m.tflite", "lstm").read_bytes())
    graph = editor.main()
    node = graph.raw.operators[0]
    node.inputs = [graph.constant("peephole", np.ones(HIDDEN)) if k == 9 else int(v) for k, v in enumerate(node.inputs)]
    with pytest.raises(GateError, match="peepholes"):
        stateless(editor.content())


def sums(scale: float, width: int = 5, units: int = 4) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(5)
    return tuple(scale * random.uniform(-1, 1, shape) for shape in ((units, width), (units, units), (units,)))  # type: ignore[return-value]


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3, 1.0, 40.0])
def test_gates_shut_whatever_the_weights(scale: float) -> None:
    w, r, b = sums(scale)
    made = shut({1: (w, r, b)}, 128.0)
    assert np.abs(made.columns[1]).max() <= max(np.abs(w).max(), 1e-6)  # a matrix with one scale is quantized as before
    worst = (made.columns[1] @ made.rows.T)[:, 0] + np.abs(r).sum(1) + b
    assert worst.max() <= -128
    assert np.isfinite(np.float32(shut({1: (w, r, b)}, 1e30).rows)).all()


def test_a_known_state_is_cancelled_to_the_last_of_two_int8_weights() -> None:
    w, r, b = sums(1.0)
    step = np.abs(w).max() / 127
    value = cancelling((w, r, b))
    made = cancelled(1, (w, r, b), value, lambda numbers: np.clip(np.round(numbers / step), -127, 127) * step)
    low, back = (made.columns[1] @ made.rows.T).T
    assert (low + np.abs(r).sum(1) + np.abs(w).sum(1) + b).max() <= -128
    assert np.abs(back - r.sum(1) + b).max() <= value * step / 127 / 2 + 1e-12
    exact = cancelled(1, (w, r, b), value, lambda numbers: numbers)
    assert np.abs((exact.columns[1] @ exact.rows.T)[:, 1] - r.sum(1) + b).max() < 1e-12


def test_steps_of_integers_grow_with_the_weights_of_the_state() -> None:
    taken, given = Scale(4 / 127, 0), Scale(1 / 127, 0)
    w, r, b = sums(1.0)
    found = [shut_integers(dict.fromkeys((1, 2, 4), (w, k * r, b)), taken, given, 2.0**-13) for k in (0, 1, 4, 40)]
    steps = [None if one is None else len(one.rows) for one in found]
    assert steps == [2, 2, 4, None]  # one that shuts, one whose c is the same whatever it was before
