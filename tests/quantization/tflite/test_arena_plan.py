"""Plans of a microcontroller's memory: what they say, and what the bare interpreter takes and gives with them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.converters.recurrent import loop
from edgekit.flatbuffer_reader import metadata
from edgekit.graph.tflite_editor import PLAN, Editor, Graph
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.tflite.arena_plan import ONLINE, with_plan
from edgekit.quantization.tflite.recurrent import quantize_recurrent
from edgekit.types import Array

INPUTS, HIDDEN, STEPS = 6, 12, 40
BARE = """\
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 20)
found = []
for x in np.load(sys.argv[2]):
    interpreter.set_input(x, 0)
    interpreter.invoke()
    found.append(interpreter.get_output(0).copy())
np.save(sys.argv[3], np.stack(found))
interpreter.print_allocations()
"""


class Anything(dict[str, Range]):
    """A range for every tensor."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Range:
        return Range(-1.0, 1.0)


@pytest.fixture(scope="module")
def loops() -> bytes:
    """Two layers of a GRU as loops on integers, all outputs of the second."""
    random = np.random.default_rng(0)
    editor = Editor.empty()
    _, graph = editor.graph("main")
    x = graph.tensor("x", [STEPS, 1, INPUTS])
    graph.raw.inputs = [x]
    for layer, width in enumerate((INPUTS, HIDDEN)):
        y, end = graph.tensor(f"y{layer}", [STEPS, 1, HIDDEN]), graph.tensor(f"end{layer}", [1, HIDDEN])
        rows = 3 * HIDDEN
        weights = [random.normal(size=size) * 0.3 for size in ((rows, width), (rows,), (rows, HIDDEN), (rows,))]
        loop.emit(graph, "gru", f"l{layer}", x, weights, [], [y, end], sequence=True, reverse=False, compact=True)
        x = y
    graph.raw.outputs = [x]
    editor = Editor(quantize_recurrent(editor.content(), "int8", Anything()).content)
    graph = editor.main()
    first, last = graph.raw.operators[0], graph.raw.operators[-1]
    graph.raw.operators = graph.raw.operators[1:-1]
    graph.raw.inputs, graph.raw.outputs = list(first.outputs), list(last.inputs)
    return editor.content()


@pytest.fixture(scope="module")
def parts() -> bytes:
    """Without loops, and such that the largest first leaves a gap that nothing fits into."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    last = graph.tensor("x", [1, 256], "int8")
    graph.raw.inputs = [last]
    for number, width in enumerate((272, 307, 435, 409, 435, 564, 435, 64)):
        made, before = graph.tensor(f"t{number}", [1, width], "int8"), graph.shape(last)[1]
        sides = graph.constant(f"s{number}", [[0, 0], [0, max(0, width - before)]], "int32")
        if width >= before:
            graph.operator("PAD", [last, sides], [made], 2)
        else:
            ends = [graph.constant(f"e{number}{k}", v, "int32") for k, v in enumerate(([0, 1], [1, width]))]
            graph.operator("SLICE", [last, *ends], [made], 2)
        last = made
    graph.raw.outputs = [last]
    for tensor in graph.raw.tensors:
        if tensor.type != 2:
            tensor.quantization = _unit()
    return editor.content()


def _unit() -> object:
    from ai_edge_litert import schema_py_generated as schema

    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint = np.array([0.1], np.float32), np.array([0], np.int64)
    return made


def places(content: bytes) -> Array:
    """The list of a file's plan."""
    found = np.frombuffer(metadata(content)[PLAN], np.int32)
    assert found[:2].tolist() == [1, 0] and found[2] == len(found) - 3
    return found[3:]


def ran(python: str, content: bytes, given: Array, folder: Path) -> tuple[int, Array]:
    """Bytes of tensors, and outputs, by the bare interpreter on several calls."""
    path = folder / "m.tflite"
    path.write_bytes(content)
    np.save(folder / "x.npy", given)
    words = [python, "-c", BARE, str(path), str(folder / "x.npy"), str(folder / "y.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = re.search(r"Arena allocation head (\d+) bytes", done.stderr)
    assert found is not None
    return int(found[1]), np.load(folder / "y.npy")


def litert(content: bytes, given: Array) -> Array:
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    found = []
    for x in given:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.stack(found)


def test_loops_take_less_and_compute_the_same(loops: bytes, tmp_path: Path, tflm_python: str) -> None:
    planned = with_plan(loops)
    assert planned is not None
    given = np.random.default_rng(5).integers(-128, 128, (6, STEPS, 1, INPUTS), np.int8)
    before, plain = ran(tflm_python, loops, given, tmp_path)
    after, found = ran(tflm_python, planned, given, tmp_path)
    assert np.std(plain) > 5  # of steps: the layers do something
    assert (plain == found).all() and (litert(loops, given) == litert(planned, given)).all()
    assert after < 0.6 * before


def test_the_list_says_the_same_from_its_beginning_and_read_on(loops: bytes) -> None:
    """Known by a file in which the interpreter reads it either way."""
    planned = with_plan(loops)
    assert planned is not None
    listed, editor = places(planned), Editor(planned)
    assert len(listed) == sum(len(graph.raw.tensors) for graph in editor.graphs()) and (listed != ONLINE).any()
    start = 0
    for graph in editor.graphs():
        for tensor, raw in enumerate(graph.raw.tensors):
            if not graph.held(tensor) and 0 not in graph.shape(tensor):
                assert listed[start + tensor] == listed[tensor], (graph.name(tensor), raw.shape)
        start += len(graph.raw.tensors)


def test_a_variable_that_is_read_behind_its_update_has_two_places(loops: bytes) -> None:
    """Its old rows are wanted when the new ones are there: written in place, they would be gone."""
    editor = Editor(loops)
    node = next(one for one in editor.main().raw.operators if editor.main().kind(one) == "WHILE")
    step = int(node.builtinOptions.bodySubgraphIndex)
    body = Graph(editor, editor.model.subgraphs[step])
    update = next(one for one in body.raw.operators if body.kind(one) == "DYNAMIC_UPDATE_SLICE")
    old = int(update.inputs[0])
    shared = planned_names(with_plan(loops))
    ends = [body.constant(f"late{k}", value, "int32") for k, value in enumerate(([0, 0, 0], [1, 1, 1]))]
    body.made("SLICE", [old, *ends], "late", [1, 1, 1], version=2)
    written = step, body.name(update.outputs[0])
    assert written in shared
    assert written not in planned_names(with_plan(editor.content()))


def planned_names(content: bytes | None) -> set[tuple[int, str]]:
    """Tensors that have a place, and the subgraphs that they are of."""
    assert content is not None
    listed, found, start = places(content), set[tuple[int, str]](), 0
    for number, graph in enumerate(Editor(content).graphs()):
        count = len(graph.raw.tensors)
        found |= {(number, graph.name(k)) for k in range(count) if listed[start + k] != ONLINE and not graph.held(k)}
        start += count
    return found


def test_a_file_without_loops(parts: bytes, tmp_path: Path, tflm_python: str) -> None:
    planned = with_plan(parts)
    assert planned is not None
    given = np.random.default_rng(6).integers(-128, 128, (5, 1, 256), np.int8)
    before, plain = ran(tflm_python, parts, given, tmp_path)
    after, found = ran(tflm_python, planned, given, tmp_path)
    assert (plain == found).all() and after < before


def test_an_edit_leaves_the_plan_out(loops: bytes) -> None:
    """It belongs to the numbers of one file: kept behind an edit it would lay one tensor over another."""
    planned = with_plan(loops)
    assert planned is not None and PLAN in metadata(planned)
    assert PLAN not in metadata(Editor(planned).content())
    again = with_plan(planned)
    assert again is not None and (places(again) == places(planned)).all()


def test_what_needs_no_plan_has_none(parts: bytes) -> None:
    editor = Editor(parts)
    graph = editor.main()
    graph.raw.operators = graph.raw.operators[:1]
    graph.raw.outputs = list(graph.raw.operators[0].outputs)
    assert with_plan(editor.content()) is None
