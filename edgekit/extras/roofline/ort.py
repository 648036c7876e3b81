"""Operators of an ONNX file with their shapes as onnxruntime ran them: from the trace of its profiler.

What ran is counted, after fusion and with the shapes of this feed, the bodies of loops as often as they ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit.extras.roofline.work import Call
from edgekit.graph import ops
from edgekit.graph.macs import Tensor
from edgekit.graph.ops import Family
from edgekit.leftovers import scratch_folder
from edgekit.runtime import Runner
from edgekit.types import Feed, Format

_BYTES = {"double": 8, "int64": 8, "uint64": 8, "float": 4, "int32": 4, "uint32": 4, "float16": 2, "bfloat16": 2,
          "int16": 2, "uint16": 2}  # fmt: skip
_WITH_BODY = ops.names(Format.ONNX, Family.LOOP, Family.BRANCH)


def calls(runner: Runner, feed: Feed) -> list[Call]:
    """See :data:`edgekit.extras.roofline.COUNTERS`."""
    import onnxruntime

    arrays = {str(port.key): array for port, array in runner.bound(feed)}
    with scratch_folder() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.add_session_config_entry("session.disable_prepacking", "1")  # a packed weight is missing from the trace
        options.profile_file_prefix = str(folder / "work")
        session = onnxruntime.InferenceSession(str(runner.artifact.path), options, providers=["CPUExecutionProvider"])
        session.run(None, arrays)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return read_calls(events)


def read_calls(events: Iterable[Mapping[str, Any]]) -> list[Call]:
    """One call for each time an operator ran, from the trace of a single run; loops themselves move nothing."""
    found = []
    for event in events:
        args = event.get("args") or {}
        if event.get("cat") != "Node" or "output_type_shape" not in args or args.get("op_name") in _WITH_BODY:
            continue
        inputs, outputs = _tensors(args.get("input_type_shape")), _tensors(args["output_type_shape"])
        found.append(Call(str(args["op_name"]), inputs, outputs))
    return found


def _tensors(rows: Any) -> tuple[Tensor, ...]:
    """``[{"float": [1, 3]}, …]`` as tensors."""
    return tuple(
        Tensor(tuple(int(size) for size in shape), _BYTES.get(kind, 1))
        for row in rows or ()
        for kind, shape in row.items()
    )
