"""What is asked of a TFLite graph: names of operators and tensors, who writes what, what stands in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.graph.tflite import enum_names, holds_data, kind_of, read_tflite
from edgekit.graph.tflite_editor import Editor, Graph


@pytest.fixture
def graph() -> Graph:
    """x * 2 + 1."""
    _, graph = Editor.empty().graph("main")
    x = graph.tensor("x", [1, 3])
    doubled = graph.made("MUL", [x, graph.constant("two", [2.0])], "doubled", [1, 3])
    graph.raw.inputs, graph.raw.outputs = [x], [graph.made("ADD", [doubled, graph.constant("one", [1.0])], "y", [1, 3])]
    return graph


def test_operators_and_tensors_have_their_names(graph: Graph) -> None:
    assert [graph.kind(operator) for operator in graph.raw.operators] == ["MUL", "ADD"]
    assert graph.name(graph.raw.outputs[0]) == "y"
    assert graph.editor.holds("ADD") and not graph.editor.holds("SUB")


def test_makers_are_those_of_the_graph_as_it_stands(graph: Graph) -> None:
    y = graph.raw.outputs[0]
    assert graph.kind(graph.makers()[y]) == "ADD" and graph.raw.inputs[0] not in graph.makers()
    del graph.raw.operators[1]
    assert y not in graph.makers()


def test_constants_are_held_and_others_are_not(graph: Graph) -> None:
    held = [graph.name(tensor) for tensor in range(len(graph.raw.tensors)) if graph.held(tensor)]
    assert held == ["two", "one"]
    two = graph.raw.operators[0].inputs[1]
    np.testing.assert_array_equal(graph.values(two), [2.0])
    assert graph.values(graph.raw.inputs[0]) is None


def test_the_reader_sees_what_the_editor_wrote(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "made.tflite"
    path.write_bytes(graph.editor.content())
    model = read_tflite(path)
    (raw,) = model.subgraphs
    assert [kind_of(model, operator) for operator in raw.operators] == ["MUL", "ADD"]
    assert sum(holds_data(model, tensor) for tensor in raw.tensors) == 2
    assert [one.name(one.raw.outputs[0]) for one in Editor(path.read_bytes()).graphs()] == ["y"]


def test_a_custom_operator_has_its_own_name_for_the_reader_and_none_for_the_editor(graph: Graph) -> None:
    graph.editor.model.operatorCodes[0].customCode = b"Mine"
    assert kind_of(graph.editor.model, graph.raw.operators[0]) == "Mine"
    assert graph.kind(graph.raw.operators[0]) == ""


def test_an_operator_that_the_schema_has_not_is_refused(graph: Graph, tmp_path: Path) -> None:
    unknown = max(enum_names("BuiltinOperator")) + 1
    graph.editor.model.operatorCodes[0].builtinCode = unknown
    path = tmp_path / "new.tflite"
    path.write_bytes(graph.editor.content())
    with pytest.raises(ModelError, match=f"operator {unknown}"):
        read_tflite(path)
