"""The command ``executorch`` of the conversion worker: a captured program becomes an ExecuTorch program for XNNPACK.

It runs in an environment of its own, on the device layer and executorch. Importing this module imports the compiler,
which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from torch.utils._sympy.value_ranges import ValueRanges
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from edgekit.runtime.pt2 import load_program


def convert(request: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """One conversion; the file has the program's inputs and outputs in their order, without names.

    ``request``: ``program``, the path of a ``.pt2`` file, which is opened as a stranger's: nothing in it is unpickled
    or run; ``samples``, for a file on integers: the path of an ``.npz`` whose array ``SAMPLE.INPUT`` is one input of
    one calibration sample, by their numbers; ``largest``, for each input the largest size of each free axis.

    Returns:
        The file; the versions of executorch and torchao.
    """
    program = load_program(Path(request["program"]))
    with torch.no_grad():
        if request.get("samples"):
            with np.load(request["samples"], allow_pickle=False) as samples:
                program = _on_integers(program, samples)
        else:
            _keep_planes(program)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        _bound(lowered.exported_program(), request.get("largest", []))
        made = lowered.to_executorch(ExecutorchBackendConfig(sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass()))
    return bytes(made.buffer), [version("executorch"), version("torchao")]


def _keep_planes(program: Any) -> None:
    """Makes a mean over height and width that drops them one that keeps them, and drops them behind it: XNNPACK has the
    second only."""
    graph, aten = program.graph_module.graph, torch.ops.aten
    for node in list(graph.nodes):
        if node.target is not aten.mean.dim or node.kwargs or True in node.args[2:]:
            continue
        image, axes = node.args[0].meta["val"], list(node.args[1] or ())
        if image.ndim != _IMAGE or sorted(axis % _IMAGE for axis in axes) != [2, 3] or _is_output(node):
            continue
        readers, flat = list(node.users), node.meta["val"]
        node.args = node.args[0], axes, True
        with graph.inserting_after(node):
            dropped = graph.call_function(aten.flatten.using_ints, (node, 1))  # a squeeze would not be XNNPACK's
        dropped.meta = {**node.meta, "val": flat}
        node.meta["val"] = image.mean(axes, keepdim=True)
        for reader in readers:
            reader.replace_input_with(node, dropped)
    program.graph_module.recompile()


_IMAGE = 4
"""Axes of a batch of images."""


def _is_output(node: Any) -> bool:
    """The program's signature calls its outputs by name: such a node stays."""
    return any(user.op == "output" for user in node.users)


def _bound(program: Any, largest: list[Mapping[str, int]]) -> None:
    """Says how large free axes may become: that is what memory is planned for.

    ``largest``: for each input, axis -> size. What lowering itself has narrowed the sizes to is overwritten: it asks
    torch which kernel of a convolution fits the example, and takes the answer (batches below 16) for a bound.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for name, axes in zip(program.graph_signature.user_inputs, largest, strict=False):
        for axis, size in axes.items():
            node = values[name].shape[int(axis)].node
            known = program.range_constraints[node.expr]
            node.shape_env.var_to_range[node.expr] = ValueRanges(known.lower, size)


def _on_integers(program: Any, samples: Mapping[str, Any]) -> Any:
    """The program with what XNNPACK has integer kernels for on int8, weights by channel, by ranges seen on ``samples``.

    Source: PyTorch 2 Export quantization (torchao's ``pt2e``) with ExecuTorch's ``XNNPACKQuantizer``.
    """
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    observed = prepare_pt2e(program.module(check_guards=False), quantizer)
    inputs = 1 + max(int(name.partition(".")[2]) for name in samples)
    feeds = (
        tuple(torch.from_numpy(samples[f"{number}.{place}"]) for place in range(inputs))
        for number in range(len(samples) // inputs)
    )
    first = next(feeds)
    observed(*first)
    for feed in feeds:
        observed(*feed)
    return torch.export.export(convert_pt2e(observed), first)


def headline(error: Exception) -> str:
    """The type of an error and the first line it says."""
    lines = [part.strip() for part in str(error).splitlines() if part.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
