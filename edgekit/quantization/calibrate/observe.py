"""Runs a float model file on calibration data and hands out its intermediate tensors, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgekit.artifact import contract_of, open_artifact, sha256_model
from edgekit.bench.environment import usable_cores
from edgekit.errors import DataError, UnsupportedError
from edgekit.graph import ops
from edgekit.graph.layers import onnx_layers, tflite_layer
from edgekit.graph.onnx import OnnxGraph, load_onnx, with_shapes
from edgekit.graph.ops import Family
from edgekit.graph.tflite_editor import Editor
from edgekit.quantization.calibrate.calibration import Calibration, check_method, checked_feeds, gather
from edgekit.quantization.calibrate.cell_states import cell_states
from edgekit.quantization.calibrate.checks import InputWatch, findings
from edgekit.quantization.calibrate.fingerprint import Probes, layouts_of, prints_of, probe_feeds
from edgekit.quantization.calibrate.histogram import Channels
from edgekit.quantization.calibrate.loop_steps import loop_steps, step_names
from edgekit.quantization.tflite.prepare import prepared as prepared_tflite
from edgekit.types import Array, Feed, Format, Signature

_FLOAT = 1  # onnx.TensorProto.FLOAT
AT_ONCE = 2
"""Samples that run at the same time, one on each core: the activations of so many, and one more, are in memory."""


def calibrate(
    path: Path,
    feeds: Iterable[Feed],
    signature: Signature,
    *,
    method: str = "minmax",
    data: str = "",
    format: Format,
    prepared: bytes | None = None,
    channels: Mapping[str, Channels] = MappingProxyType({}),
) -> Calibration:
    """The ranges of every float activation of the float model at ``path`` over ``feeds``, each read once.

    Args:
        prepared: the file in the form that it is quantized from, where somebody has made that already.
        channels: tensor -> what its channels are to be told to, too.

    Raises:
        DataError: the data is empty, of another shape than ``signature`` says, or not finite.
        ModelError: the model itself makes NaN or infinity.
        UsageError: no such method.
    """
    check_method(method)
    artifact = open_artifact(path)
    contract = contract_of(artifact)
    watch = InputWatch(signature, contract)
    waiting = watch.watching(checked_feeds(feeds, signature))
    first = next(waiting, None)
    if first is None:
        raise DataError("the calibration data is empty; give at least one sample, some hundred are usual")
    probes = probe_feeds(signature, contract, first)
    if format is Format.ONNX:
        prepared = None  # its tensors have their names in the file, too
    elif prepared is None:
        prepared = prepared_tflite(path)
    tensors = file_tensors(path, format, signature, chain(probes, [first], waiting), prepared)
    prints = prints_of([values for _, values in islice(tensors, len(probes))])
    made = gather(
        _told(channels, tensors),
        method=method,
        data=data,
        channel_axis=1 if format is Format.ONNX else -1,
        model_sha256=sha256_model(path),
    )
    read = _weighted_inputs(path, prepared)
    made = replace(
        made,
        layers=layers_of(path, format, made.ranges),
        dead={name: count for name, count in made.dead.items() if name in read},
        probes=Probes(probes, layouts_of(contract), prints),
    )
    return replace(made, notes=(*made.notes, *watch.findings(), *findings(made)))


def _told(
    channels: Mapping[str, Channels], tensors: Iterable[tuple[int, Mapping[str, Array]]]
) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """``tensors``, as they come, of which some are told to ``channels``."""
    for count, values in tensors:
        for name in channels.keys() & values.keys():
            channels[name].update(values[name])
        yield count, values


def _weighted_inputs(path: Path, prepared: bytes | None) -> set[str]:
    """Tensors that convolutions and matrix products with constant weights read: those that have channels.

    Args:
        prepared: of a TFLite file.
    """
    if prepared is None:
        format = Format.ONNX
        graph = load_onnx(path).graph
        constants = OnnxGraph(graph).constants
        nodes = [n for n in graph.node if n.op_type in ops.names(format, Family.CONVOLUTION, Family.MATMUL)]
        return {n.input[0] for n in nodes if n.input[1] in constants}
    main = Editor(prepared).main()
    places = {op.name: op.data for op in ops.weighted(Format.TFLITE) if op.layout}
    read = [(node, places.get(main.kind(node))) for node in main.raw.operators]
    return {main.name(node.inputs[place]) for node, place in read if place is not None}


def file_tensors(
    path: Path, format: Format, signature: Signature, feeds: Iterable[Feed], prepared: bytes | None = None
) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """Every float32 activation of the file at ``path``, by name, for each feed; with the number of samples in it."""
    names = [spec.name for spec in signature.inputs]
    return onnx_tensors(path, names, feeds) if format is Format.ONNX else tflite_tensors(path, names, feeds, prepared)


def layers_of(path: Path, format: Format, names: Iterable[str]) -> dict[str, str]:
    """Tensor name -> layer of the torch module that it comes from, where the file tells."""
    layer_of = onnx_layers(path.read_bytes()) if format is Format.ONNX else tflite_layer
    return {name: layer for name in names if (layer := layer_of(name)) is not None}


def onnx_tensors(path: Path, inputs: list[str], feeds: Iterable[Feed]) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """Every float32 tensor of the main graph, by name, for each feed; with the number of samples in it."""
    import onnxruntime

    model = load_onnx(path)
    names = _add_outputs(model)
    options = onnxruntime.SessionOptions()
    # Fusions would remove the tensors that are asked for; without them every name exists as written.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1  # with more, sums end in another last bit
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    own = matched([value.name for value in session.get_inputs()], inputs)

    def run(feed: Feed) -> tuple[int, Mapping[str, Array]]:
        bound = {own[name]: value for name, value in feed.items() if name in own}
        with _refusing(path, "onnxruntime without fusions", Exception):  # its errors share no other class
            outputs = session.run(names, bound)
        tensors = {**bound, **dict(zip(names, outputs, strict=True))}
        return _samples(bound), {name: value for name, value in tensors.items() if value.dtype == np.float32}

    with ThreadPoolExecutor(min(AT_ONCE, usable_cores())) as pool:
        waiting: deque[Future[tuple[int, Mapping[str, Array]]]] = deque()
        for feed in feeds:
            waiting.append(pool.submit(run, feed))
            if len(waiting) > AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _add_outputs(model: Any) -> list[str]:
    """Makes every float tensor an output of the graph; returns their names."""
    import onnx

    types = {value.name: value.type.tensor_type.elem_type for value in with_shapes(model).value_info}
    types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    present = {value.name for value in model.graph.output}
    names = [value.name for value in model.graph.output]
    for node in model.graph.node:
        for name in node.output:
            if name and name not in present and types.get(name, 0) == _FLOAT:
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, _FLOAT, None))
                names.append(name)
    return names


def tflite_tensors(
    path: Path, inputs: list[str], feeds: Iterable[Feed], prepared: bytes | None = None
) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """Every float32 activation of the main subgraph, by name, for each feed; with the number of samples in it.

    A cell state of an LSTM is that of every step, and so is what a compact loop computes. What happens inside another
    loop is not seen, nor the steps of stateless layers.

    Raises:
        UnsupportedError: the file does not run on TFLite's own kernels, of which each writes a tensor.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without delegates each operator writes its own tensor; XNNPACK would keep fused ones to itself.
    content = prepared_tflite(path) if prepared is None else prepared
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    with _refusing(path, "TFLite's own kernels", RuntimeError, ValueError):
        interpreter.allocate_tensors()
    rows = _signature_inputs(interpreter)
    own = matched(list(rows), inputs)
    wanted = _activations(content)  # the interpreter adds scratch tensors of its own kernels
    cells, steps = cell_states(content), loop_steps(content)
    for feed in feeds:
        with _refusing(path, "TFLite's own kernels", RuntimeError, ValueError):
            for name in inputs:
                row = rows[own[name]]
                if list(row["shape"]) != list(feed[name].shape):
                    interpreter.resize_tensor_input(row["index"], feed[name].shape)
                    interpreter.allocate_tensors()
                    row["shape"] = np.asarray(feed[name].shape)
                interpreter.set_tensor(row["index"], feed[name])
            interpreter.reset_all_variables()
            interpreter.invoke()
        tensors = {}
        for row in interpreter.get_tensor_details():
            if row["dtype"] is np.float32 and row["index"] in wanted:
                tensors[row["name"]] = interpreter.get_tensor(row["index"])
        yield _samples(feed), {**tensors, **cells(interpreter.get_tensor), **steps(interpreter.get_tensor)}


def without_range(content: bytes, known: Collection[str]) -> tuple[str, ...]:
    """Tensors of a prepared TFLite file whose ranges :func:`calibrate` finds and that are not among the ``known``."""
    graph = Editor(content).main()
    own = (graph.name(k) for k in sorted(_activations(content)) if graph.dtype(k) == "float32")
    variables = {graph.name(k) for k, raw in enumerate(graph.raw.tensors) if raw.isVariable}
    return tuple(name for name in (*own, *step_names(content)) if name not in known and name not in variables)


@contextmanager
def _refusing(path: Path, runtime: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise UnsupportedError(
            f"{path} does not run on {runtime}, where its ranges are observed: {' '.join(str(error).split())}. "
            "int8-weights and fp16 need no ranges"
        ) from error


def matched(own: list[str], given: list[str]) -> dict[str, str]:
    """Given name -> the file's own; by position where a card names what the file leaves nameless."""
    return {name: name for name in given} if set(own) == set(given) else dict(zip(given, own, strict=True))


def _signature_inputs(interpreter: Any) -> dict[str, Any]:
    """Input details by the name the user sees: the SignatureDef's where there is one, else the tensor's."""
    details = {row["index"]: dict(row) for row in interpreter.get_input_details()}
    listed = interpreter._get_full_signature_list()
    if listed:
        first = next(iter(listed.values()))
        return {name: details[index] for name, index in first["inputs"].items()}
    return {row["name"]: row for row in details.values()}


def _activations(content: bytes) -> set[int]:
    """Indices of a file's own tensors whose values do not stand in the file, and are there after a run."""
    graph = Editor(content).main()
    raw = graph.raw
    read = {int(k) for node in raw.operators for k in node.inputs} | set(map(int, raw.outputs))
    left = {int(k) for node in raw.operators if _loops(node) for k in node.outputs if k not in read}
    return {tensor for tensor in range(len(raw.tensors)) if not graph.held(tensor)} - left


def _loops(node: Any) -> bool:
    """Whether an operator is a WHILE, which gives no values to outputs that nothing reads."""
    return getattr(node.builtinOptions, "bodySubgraphIndex", None) is not None


def _samples(feed: Feed) -> int:
    return max((value.shape[0] for value in feed.values() if value.ndim), default=1)
