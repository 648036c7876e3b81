"""What the steps of a TFLite file's compact loops compute, for calibration.

After a run only the last of it can be read. So each loop is run once more, its step and its condition as files of their
own, beginning with what went into the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit.graph.tflite_editor import Editor, Graph, alone
from edgekit.quantization.tflite.compact_loops import is_compact
from edgekit.types import Array


def loop_steps(content: bytes) -> Callable[[Callable[[int], Array]], Mapping[str, Array]]:
    """A function from a reader of the main graph's tensors, by number, to the values inside of its compact loops: by
    name, steps on the first axis."""
    graph = Editor(content).main()
    nodes = [node for node in graph.raw.operators if graph.kind(node) == "WHILE" and is_compact(graph.editor, node)]
    loops = [_Loop(content, node) for node in nodes]
    return lambda read: {name: value for loop in loops for name, value in loop.run(read).items()}


def step_names(content: bytes) -> tuple[str, ...]:
    """Names of what :func:`loop_steps` gives."""
    editor = Editor(content)
    main = editor.main()
    nodes = [node for node in main.raw.operators if main.kind(node) == "WHILE" and is_compact(editor, node)]
    steps = (Graph(editor, editor.model.subgraphs[node.builtinOptions.bodySubgraphIndex]) for node in nodes)
    return tuple(name for step in steps for name in _computed(step))


def _computed(step: Graph) -> dict[str, int]:
    """Name -> tensor, of what the operators of a step compute of reals."""
    return {
        step.name(tensor): int(tensor)
        for node in step.raw.operators
        for tensor in node.outputs
        if step.dtype(int(tensor)) == "float32" and step.kind(node) != "DYNAMIC_UPDATE_SLICE"  # all steps, again
    }


class _Loop:
    """One WHILE of the main graph."""

    def __init__(self, content: bytes, node: Any) -> None:
        self._inputs = [int(k) for k in node.inputs]
        options = node.builtinOptions
        self._condition, self._step = (
            _Part(alone(content, number)) for number in (options.condSubgraphIndex, options.bodySubgraphIndex)
        )

    def run(self, read: Callable[[int], Array]) -> dict[str, Array]:
        """Name of a tensor of the step -> its values, (T, …)."""
        variables = [read(tensor) for tensor in self._inputs]
        found: dict[str, list[Array]] = {name: [] for name in self._step.inner}
        while self._condition(variables)[0].item():
            variables = self._step(variables)
            for name, tensor in self._step.inner.items():
                found[name].append(self._step.read(tensor))
        return {name: np.stack(values) for name, values in found.items() if values}


class _Part:
    """A subgraph in an interpreter. ``inner``: name -> tensor, of what its operators compute of reals."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        graph = Editor(content).main()
        self._inputs, self._outputs = (list(map(int, side)) for side in (graph.raw.inputs, graph.raw.outputs))
        self.inner = _computed(graph)
        self.read: Callable[[int], Array] = self._interpreter.get_tensor

    def __call__(self, values: list[Array]) -> list[Array]:
        for tensor, value in zip(self._inputs, values, strict=True):
            self._interpreter.set_tensor(tensor, value)
        self._interpreter.invoke()
        return [self.read(tensor) for tensor in self._outputs]
