"""GRU and RNN of TFLite files on integers throughout: the loop, its step, and the proof of both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.artifact import open_artifact
from edgekit.converters.recurrent import loop
from edgekit.environments import TFLM
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.passes import PassContext
from edgekit.quality.arithmetic import compare
from edgekit.quality.as_app import Call
from edgekit.quality.coverage import coverage
from edgekit.quality.readings_tflite import TflitePair
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.calibrate.loop_steps import loop_steps
from edgekit.quantization.calibrate.observe import calibrate, without_range
from edgekit.quantization.prepared import Prepared, prepare
from edgekit.quantization.tflite.compact_loops import holds_compact, with_compact_loops
from edgekit.quantization.tflite.integer_loops import fine
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.quantization.tflite.stateless import stateless
from edgekit.runtime import load
from edgekit.types import Array, Format

from ..tflite_files import FEATURES, HIDDEN, recurrent_file, tflite_file, weights

pytestmark = pytest.mark.usefixtures("kept_workers")

SNR = 30.0
"""Decibels. 8 bits of an input or an output are worth 40 to 50, int8 weights about 40; the step adds 16-bit rounding. A
wrong wire is at 5 or less."""


def walks(count: int, steps: int, batch_first: bool = True) -> list[dict[str, Array]]:
    """Smooth random walks within about -3..3, all of one file's length."""
    random = np.random.default_rng(3)
    found = random.standard_normal((count, 1, steps, FEATURES)).cumsum(2).astype(np.float32) / np.sqrt(steps / 4)
    return [{"x": walk if batch_first else walk.swapaxes(0, 1)} for walk in found.astype(np.float32)]


CASES: Mapping[str, tuple[str, int, int, bool, bool]] = {  # cell, layers, steps, batch first, both directions
    "gru": ("gru", 2, 12, False, False),
    "gru in blocks": ("gru", 1, 150, False, False),
    "gru both": ("gru", 1, 12, False, True),
    "rnn": ("rnn_tanh", 2, 12, True, False),
    "rnn both": ("rnn_tanh", 1, 12, True, True),
    "relu, time first": ("rnn_relu", 1, 12, False, False),
}


class Files:
    """A float file, its prepared form, and its integer file."""

    def __init__(self, folder: Path, case: str) -> None:
        cell, count, steps, batch_first, both = CASES[case]
        widths = [FEATURES, HIDDEN * (1 + both)][:count]
        layers = [weights(cell, width, seed) for seed, width in enumerate(widths)]
        self.path, self.made = folder / "m.tflite", folder / "q.tflite"
        recurrent_file(self.path, cell, layers, steps=steps, batch_first=batch_first, both=both)
        self.path.write_bytes(stateless(self.path.read_bytes()))
        self.feeds = walks(14, steps, batch_first)
        self.prepared = prepare(open_artifact(self.path), integers_only=True)
        self.quantizer = QuantizeTflite("int8", self.ranges(self.prepared), integer_io=True)
        self.quantizer.run(self.prepared.artifact, self.prepared.context(self.made))

    def ranges(self, prepared: Prepared) -> Calibration:
        with load(self.path) as runner:
            signature = runner.signature
        # all of them: what lies beyond a range is not the question here
        return calibrate(self.path, self.feeds, signature, format=Format.TFLITE, prepared=prepared.content)

    def outputs(self, path: Path, stateful: bool = True) -> Array:
        """Of some calls, one after another with nothing reset in between."""
        with load(path, stateful=stateful) as runner:
            return np.stack([next(iter(runner.run(feed).values())) for feed in self.feeds[10:]])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Files]:
    known: dict[str, Files] = {}

    def make(case: str) -> Files:
        if case not in known:
            known[case] = Files(tmp_path_factory.mktemp("case"), case)
        return known[case]

    return make


def snr(found: Array, wanted: Array) -> float:
    return float(10 * np.log10(np.mean(wanted**2) / np.mean((found - wanted) ** 2)))


@pytest.mark.parametrize("case", CASES)
def test_all_of_it_is_integers_and_near_the_float_file(files: Callable[[str], Files], case: str) -> None:
    made = files(case)
    account = coverage(open_artifact(made.made))
    assert (account.integer_operators, account.hybrid_operators, account.left_float) == (account.operators, 0, ())
    for graph in Editor(made.made.read_bytes()).graphs():
        kinds = [graph.kind(node) for node in graph.raw.operators]
        assert "DEQUANTIZE" not in kinds and "UNIDIRECTIONAL_SEQUENCE_RNN" not in kinds
        assert all(graph.dtype(k) != "float32" for k in range(len(graph.raw.tensors)))
    assert snr(made.outputs(made.made), made.outputs(made.path)) > SNR


@pytest.mark.parametrize("case", CASES)
def test_the_loops_compute_what_the_layers_did(files: Callable[[str], Files], case: str, tmp_path: Path) -> None:
    made = files(case)
    compact = tmp_path / "compact.tflite"
    compact.write_bytes(made.prepared.content)
    found, wanted = made.outputs(compact), made.outputs(made.path)
    assert np.abs(found - wanted).max() < 1e-5  # another order of sums, over 150 steps at most


@pytest.mark.parametrize("case", ["gru", "rnn both"])
def test_microcontrollers_give_the_same_integers(files: Callable[[str], Files], case: str, tmp_path: Path) -> None:
    """tflite-micro beside LiteRT's kernels, call after call: to one step, since they round multipliers otherwise."""
    made, python = files(case), TFLM.python()
    if python is None:
        pytest.skip(f"needs .venv-tflm or ${TFLM.variable}: run scripts/test")
    interpreter = Interpreter(
        model_path=str(made.made), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = given["quantization"]
    fed, wanted = [], []
    for feed in made.feeds[10:]:
        fed.append(np.clip(np.rint(feed["x"] / scale) + zero, -128, 127).astype(np.int8))
        interpreter.set_tensor(given["index"], fed[-1])
        interpreter.invoke()
        wanted.append(interpreter.get_tensor(result["index"]).astype(int))
    np.save(tmp_path / "fed.npy", np.stack(fed))
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run([python, "-c", MICRO, made.made, tmp_path], check=True, capture_output=True, env=environment)
    found = np.load(tmp_path / "found.npy").astype(int)
    assert np.ptp(found) > 50
    assert np.abs(found - np.stack(wanted)).max() <= 1


MICRO = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1])
found = []
for x in np.load(sys.argv[2] + "/fed.npy"):
    interpreter.set_input(x, 0)
    interpreter.invoke()
    found.append(interpreter.get_output(0).copy())
np.save(sys.argv[2] + "/found.npy", np.stack(found))
"""


def proof(made: Files, content: bytes) -> list[str]:
    feeds = made.feeds[10:11]
    calls = [Call(feed, {}, {"y": made.outputs(made.made)[0]}) for feed in feeds]
    pair = TflitePair(made.prepared.content, content)
    return [str(found) for found in compare(pair, calls).findings]


def test_the_step_is_compared_operator_by_operator(files: Callable[[str], Files]) -> None:
    made = files("gru")
    assert proof(made, made.made.read_bytes()) == []
    pair = TflitePair(made.prepared.content, made.made.read_bytes())
    assert [len(one.pair.readings) > 15 for one in pair.loops] == [True, True]


@pytest.mark.parametrize(
    ("fault", "named"),
    [("scale", "of_state_0"), ("wire", "reset"), ("weight", "weights"), ("bias", "bias"), ("state", "h_less_n")],
)
def test_a_fault_inside_a_loop_is_found(files: Callable[[str], Files], fault: str, named: str) -> None:
    """A part with twice the scale of the whole, gates in each other's place, one weight, one bias, another state."""
    made = files("gru")
    editor = Editor(made.made.read_bytes())
    main = editor.main()
    node = next(one for one in main.raw.operators if main.kind(one) == "WHILE")
    step = Graph(editor, editor.model.subgraphs[node.builtinOptions.bodySubgraphIndex])
    nodes = {step.name(one.outputs[0]).rpartition("/")[2]: one for one in step.raw.operators}
    if fault == "scale":
        how = step.raw.tensors[int(nodes["of_state_0"].outputs[0])].quantization
        how.scale = np.asarray(how.scale) * 2
    elif fault == "wire":
        nodes["rz_0"].outputs = nodes["rz_0"].outputs[::-1]
    elif fault == "state":
        nodes["h_less_n"].inputs = [nodes["n"].outputs[0], nodes["n"].outputs[0]]
    else:
        tensor = step.raw.tensors[int(nodes["of_state"].inputs[1 + (fault == "bias")])]
        data = np.array(editor.model.buffers[tensor.buffer].data)
        data[0 if fault == "weight" else 2] ^= 0x40
        editor.model.buffers[tensor.buffer].data = data
    findings = proof(made, editor.content())
    assert any(named in one for one in findings), findings


def test_what_a_loop_computes_is_seen_at_every_step(files: Callable[[str], Files]) -> None:
    """Its last state is what the loop gives; the ranges of its sums are those of all steps."""
    made = files("gru")
    graph = Editor(made.prepared.content).main()
    nodes = [node for node in graph.raw.operators if graph.kind(node) == "WHILE"]
    interpreter = Interpreter(
        model_content=made.prepared.content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], made.feeds[0]["x"])
    interpreter.invoke()
    seen = loop_steps(made.prepared.content)(interpreter.get_tensor)
    states = [value for name, value in seen.items() if name.endswith("/h")]
    assert [value.shape for value in states] == [(12, 1, HIDDEN)] * 2
    room = interpreter.get_tensor(int(nodes[0].outputs[1]))
    assert np.array_equal(states[0], room)


@pytest.mark.parametrize("case", CASES)
def test_ranges_of_the_file_as_it_is_lack_those_inside(files: Callable[[str], Files], case: str) -> None:
    """So that ranges saved for another target are completed; those found for this one lack nothing."""
    made = files(case)
    own = made.quantizer.calibration
    assert own is not None and without_range(made.prepared.content, own.ranges) == ()
    plain = made.ranges(prepare(made.prepared.artifact)).ranges
    missing = without_range(made.prepared.content, plain)
    assert missing and all(name in own.ranges for name in missing)


def test_layers_that_have_no_such_form_stay_as_they_are(tmp_path: Path) -> None:
    """An RNN that keeps its state between calls, a loop of an open length, a loop of another step."""
    own = weights("rnn_tanh", FEATURES, 0)
    rnn = recurrent_file(tmp_path / "rnn.tflite", "rnn_tanh", [own]).read_bytes()
    assert with_compact_loops(rnn, anew=False) == rnn
    assert holds_compact(with_compact_loops(rnn, anew=True))

    def gru(graph: Graph, *, free: bool = False, changed: bool = False) -> None:
        x = graph.tensor("x", [-1 if free else 5, 1, FEATURES])
        y, end = graph.tensor("y", [-1 if free else 5, 1, HIDDEN]), graph.tensor("end", [1, HIDDEN])
        w_input, w_state, bias = weights("gru", FEATURES, 0)
        loop.emit(graph, "gru", "l", x, [w_input, bias, w_state, bias], [], [y, end], sequence=True, reverse=False)
        graph.raw.inputs, graph.raw.outputs = [x], [y]
        if changed:
            body = Graph(graph.editor, graph.editor.model.subgraphs[1])
            node = next(one for one in body.raw.operators if body.kind(one) == "TANH")
            node.opcodeIndex = graph.editor.code(0, 1)
            node.inputs = [node.inputs[0], node.inputs[0]]

    cases = {"plain": {}, "free": {"free": True}, "changed": {"changed": True}}
    for name, options in cases.items():
        path = tflite_file(tmp_path / f"{name}.tflite", lambda graph, options=options: gru(graph, **options))  # type: ignore[misc]
        assert holds_compact(with_compact_loops(path.read_bytes(), anew=True)) == (name == "plain")


def test_without_the_ranges_of_its_step_a_loop_is_not_written(tmp_path: Path, files: Callable[[str], Files]) -> None:
    made = files("gru")
    own = made.quantizer.calibration
    assert own is not None
    outside = {name: one for name, one in own.ranges.items() if not name.startswith("subgraph")}
    poorer = QuantizeTflite("int8", Calibration(own.method, own.data, 1, outside, own.means), integer_io=True)
    notes = poorer.apply(made.prepared.artifact, PassContext(tmp_path / "q.tflite", made.prepared.content)).notes
    assert any("the calibration has no range of" in note for note in notes)


def test_a_scale_of_16_bits_reaches_beyond_what_was_seen_and_is_no_power_of_two() -> None:
    scale = fine(Range(-0.5, 1.0))
    assert 1.9 < scale.step * 32767 < 2.1
    assert abs(np.log2(scale.step) - np.round(np.log2(scale.step))) > 1e-3  # TFLite's CheckedLog2
