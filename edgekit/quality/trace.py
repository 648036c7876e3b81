"""Every intermediate value of one run, with the modules it belongs to: torch modules, ONNX files, TFLite files."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.onnx import OnnxGraph, load_onnx
from edgekit.types import Array, Feed, Format, Signature

if TYPE_CHECKING:
    import torch

NAME_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: what it reads and writes (tensor names), and the modules it came from (empty when unknown)."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    modules: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    """What the file calls its outputs, where that is not :attr:`outputs`."""

    @property
    def label(self) -> str:
        """For people: ``block1.conv1, block1.bn1 (Conv)``."""
        if not self.modules:
            return f"the operator {self.operator} that writes {', '.join(self.called or self.outputs)!r}"
        return f"{', '.join(self.modules)} ({self.operator})"


@dataclass(frozen=True, slots=True)
class Trace:
    """Operators in the order they run, and the float values they wrote, by tensor name."""

    nodes: tuple[Node, ...]
    values: Mapping[str, Array] = field(default_factory=dict)


def trace_module(module: torch.nn.Module, feed: Feed, signature: Signature) -> Trace:
    """Runs ``module`` eagerly and records what every operator gives, under the module that called it."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    nodes: list[Node] = []
    values: dict[str, Array] = {}
    stack = [""]
    names = {id(child): name for name, child in module.named_modules()}

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.numel():
                    name = f"v{len(values)}"
                    values[name] = np.array(leaf.detach().to(torch.float32).numpy())
                    nodes.append(Node(str(func), (), (name,), (stack[-1],)))
            return result

    handles = []
    for child in module.modules():
        handles.append(child.register_forward_pre_hook(lambda m, _: stack.append(names[id(m)])))
        handles.append(child.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    arguments = [torch.from_numpy(np.array(feed[spec.name]).astype(spec.dtype)) for spec in signature.inputs]
    try:
        with torch.no_grad(), Recorder():  # type: ignore[no-untyped-call]
            module(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    return Trace(tuple(nodes), values)


def trace_file(path: Path, format_: Format, feed: Feed, names: Mapping[str, str] | None = None) -> Trace | None:
    """The trace of a model file, or None for a format that gives none.

    Args:
        feed: arrays by the file's own input names.
        names: how a TFLite file spells a module's path -> the path (see :func:`module_names`).
    """
    if format_ is Format.ONNX:
        return trace_onnx(path, feed)
    if format_ is Format.TFLITE:
        return trace_tflite(path, feed, names or {})
    return None


def trace_onnx(path: Path, feed: Feed) -> Trace:
    """Runs an ONNX file with every intermediate tensor as an output."""
    import onnx
    import onnxruntime

    model = load_onnx(path)
    graph = model.graph
    constants = OnnxGraph(graph).constants
    nodes = []
    for node in graph.node:
        scopes = [ast.literal_eval(entry.value) for entry in node.metadata_props if entry.key == NAME_SCOPES]
        owners = [str(name).rpartition(".")[0] for name in node.input if name in constants and "." in name]
        modules = dict.fromkeys([*owners, *(str(s[-2]) for s in scopes if len(s) > 1)])
        inputs = tuple(name for name in node.input if name and name not in constants)
        outputs = tuple(name for name in node.output if name)
        nodes.append(Node(node.op_type, inputs, outputs, tuple(m for m in modules if m)))
    known = {value.name for value in graph.output}
    wanted = [name for node in nodes for name in node.outputs if name not in known]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    floats = [item.name for item in session.get_outputs() if item.type in ("tensor(float)", "tensor(float16)")]
    given = {item.name: feed[item.name] for item in session.get_inputs()}
    results = session.run(floats, given)
    values = {name: np.asarray(value, np.float32) for name, value in zip(floats, results, strict=True)}
    return Trace(tuple(nodes), values)


def trace_tflite(path: Path, feed: Feed, names: Mapping[str, str]) -> Trace:
    """Runs a TFLite file on the built-in kernels (no XNNPACK, which keeps its intermediates to itself)."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    if interpreter.get_signature_list():
        # the signature runner is let go at once: as long as it lives, inputs cannot be resized
        inputs = dict(interpreter.get_signature_runner().get_input_details())
    else:
        inputs = {row["name"]: row for row in interpreter.get_input_details()}
    for name, row in inputs.items():
        interpreter.resize_tensor_input(row["index"], feed[name].shape)
    interpreter.allocate_tensors()
    for name, row in inputs.items():
        interpreter.set_tensor(row["index"], _integers(feed[name], row))
    interpreter.invoke()
    rows = {row["index"]: row for row in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()  # the only way the package offers
    written = {int(k) for op in operators for k in op["outputs"]}
    fed = {int(row["index"]) for row in inputs.values()}
    values, nodes = {}, []
    for op in operators:
        ins, outs = [int(k) for k in op["inputs"] if k >= 0], [int(k) for k in op["outputs"]]
        modules: dict[str, None] = {}
        for index in (*outs, *(k for k in ins if k not in written and k not in fed)):
            modules |= dict.fromkeys(_paths(str(rows[index]["name"]) if index in rows else "", names))
        live = tuple(str(k) for k in ins if k in written or k in fed)
        called = tuple(str(rows[index]["name"]) for index in outs if index in rows)
        nodes.append(Node(str(op["op_name"]), live, tuple(map(str, outs)), tuple(modules), called))
        for index in outs:
            if index in rows:
                values[str(index)] = _dequantized(interpreter.get_tensor(index), rows[index])
    return Trace(tuple(nodes), {name: v for name, v in values.items() if v.dtype.kind == "f" and v.size})


def module_names(program: Any) -> dict[str, str]:
    """How litert-torch spells the modules of a captured program in tensor names -> the module's path.

    The spelling is ``Class/Class_attribute`` down the stack of modules (litert_torch.backend.debuginfo).
    """
    spelled: dict[str, str] = {}
    for node in program.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        parts = []
        for path, kind in stack:
            full = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            parts.append(full + (f"_{path.split('.')[-1]}" if path else ""))
            spelled.setdefault("/".join(parts), path)
    return spelled


def _paths(tensor: str, names: Mapping[str, str]) -> Sequence[str]:
    """Modules named in a TFLite tensor name: paths where they are known, else the last class and attribute."""
    found = []
    for part in tensor.split(";"):
        if part in names:
            if names[part]:
                found.append(names[part])
        elif not names and "/" in part:
            found.append(part.rpartition("/")[2].rpartition(".")[2])
    return found


def _integers(value: Array, row: Mapping[str, Any]) -> Array:
    """Real values as the integers a quantized input takes; others cast to the input's own type."""
    scale, zero = row["quantization"]
    dtype = np.dtype(row["dtype"])
    real: Array = value
    if dtype.kind in "iu" and scale and value.dtype.kind == "f":
        limits = np.iinfo(dtype)
        real = np.clip(np.rint(value / scale) + zero, limits.min, limits.max)
    return real.astype(dtype)


def _dequantized(value: Array, row: Mapping[str, Any]) -> Array:
    parameters = row["quantization_parameters"]
    if value.dtype.kind in "iu" and len(parameters["scales"]) == 1:
        centred: Array = value.astype(np.float32) - np.float32(parameters["zero_points"][0])
        return centred * np.float32(parameters["scales"][0])
    return value.astype(np.float32) if value.dtype == np.float16 else value
