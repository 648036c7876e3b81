"""Time per operator of a TFLite file, each operator in a file of its own, on the values it gets inside the model.

For what LiteRT's profiler cannot tell: files its C interface does not open (operators with left-out inputs, such as a
fused LSTM), and operators so short that its clock of whole microseconds sees nothing. An operator alone has warmer
caches than inside the model, and none of the fusion across operators: times are compared with the model's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.bench.clock import WarmupRule, time_calls
from edgekit.errors import RuntimeMissingError
from edgekit.extras.profile.rows import Row
from edgekit.graph.layers import tflite_layer
from edgekit.runtime.litert import LiteRtRunner
from edgekit.runtime.native_stderr import filter_stderr
from edgekit.types import Array

SHARE_NS = 20_000_000
"""Time for one operator: with hundreds of them the pass takes seconds."""
_MIN_RUNS, _MAX_NS = 5, 500_000_000


def operator_rows(runner: LiteRtRunner, arrays: list[tuple[int, Array]]) -> list[Row]:
    """One row an operator of the main graph. ``arrays``: tensor index and values of each input.

    Raises:
        RuntimeMissingError: the package that reads and writes such files is not there.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter
        from flatbuffers import Builder
    except ImportError as error:
        raise RuntimeMissingError(
            f"--profile of this file needs {error.name}, to write each operator to a file of its own; "
            f"run: pip install {error.name}"
        ) from error
    values = _values(Interpreter, runner, arrays)
    rows = []
    for operator, data in _files(schema, Builder, runner.artifact.path.read_bytes(), values):
        with filter_stderr():
            interpreter = Interpreter(model_content=data, num_threads=runner.threads)
        made = [(int(row["index"]), str(row["name"])) for row in interpreter.get_input_details()]
        for index, shape in [(i, values[i].shape) for i, _ in made]:
            interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()
        for index, _ in made:
            interpreter.set_tensor(index, values[index])
        block = time_calls(
            interpreter.invoke, warmup=WarmupRule(3, 0, _MAX_NS), min_runs=_MIN_RUNS, min_ns=SHARE_NS, max_ns=_MAX_NS
        )
        place = runner.operators()[operator]
        ms = float(np.median(block.samples_ns)) / 1e6
        rows.append(Row(f"{place.index} {place.type}", place.type, place.by, ms, layer=tflite_layer(place.output)))
    return rows


def _values(interpreter_class: Any, runner: LiteRtRunner, arrays: list[tuple[int, Array]]) -> dict[int, Array]:
    """What each tensor of the main graph holds after a run."""
    with filter_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors takes memory, which is meant here
        interpreter = interpreter_class(
            model_path=str(runner.artifact.path), num_threads=runner.threads, experimental_preserve_all_tensors=True
        )
    for index, array in arrays:
        interpreter.resize_tensor_input(index, array.shape)
    interpreter.allocate_tensors()
    for index, array in arrays:
        interpreter.set_tensor(index, array)
    interpreter.invoke()
    values = {}
    for row in interpreter.get_tensor_details():
        index = int(row["index"])
        try:
            values[index] = interpreter.get_tensor(index)
        except ValueError:  # a tensor without memory: a left-out output, a delegate's own
            continue
    return values


def _files(schema: Any, builder_class: Any, data: bytes, values: dict[int, Array]) -> Iterator[tuple[int, bytes]]:
    """Place of an operator in the main graph, and a file in which it alone is left."""
    whole = schema.ModelT.InitFromPackedBuf(data, 0)
    operators = list(whole.subgraphs[0].operators)
    for place, operator in enumerate(operators):
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        graph = model.subgraphs[0]
        given = dict.fromkeys(int(i) for i in operator.inputs if i >= 0)
        graph.operators = [graph.operators[place]]
        graph.inputs = [i for i in given if not _constant(model, graph.tensors[i])]
        graph.outputs = [int(i) for i in operator.outputs if i >= 0]
        if not all(i in values for i in graph.inputs):
            continue
        model.signatureDefs, model.metadata = [], []
        kept = {graph.tensors[i].buffer for i in given} | {t.buffer for g in model.subgraphs[1:] for t in g.tensors}
        for number, buffer in enumerate(model.buffers):
            if number not in kept:
                buffer.data = None
        builder = builder_class(len(data) // 2)
        builder.Finish(model.Pack(builder), b"TFL3")
        yield place, bytes(builder.Output())


def _constant(model: Any, tensor: Any) -> bool:
    held = model.buffers[tensor.buffer].data
    return bool(tensor.isVariable) or (held is not None and len(held) > 0)
