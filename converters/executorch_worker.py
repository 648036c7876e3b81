"""The command ``executorch`` of the conversion worker: a captured program becomes an ExecuTorch program for XNNPACK.

It runs in an environment of its own, on the device layer and executorch. Importing this module imports the compiler,
which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass

from edgekit.runtime.pt2 import load_program


def convert(request: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """One conversion; the file has the program's inputs and outputs in their order, without names.

    ``request``: ``program``, the path of a ``.pt2`` file.

    Returns:
        The file; the version of executorch.
    """
    program = load_program(Path(request["program"]))
    with torch.no_grad():
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        made = lowered.to_executorch(ExecutorchBackendConfig(sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass()))
    return bytes(made.buffer), [version("executorch")]


def headline(error: Exception) -> str:
    """The type of an error and the first line it says."""
    lines = [part.strip() for part in str(error).splitlines() if part.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
