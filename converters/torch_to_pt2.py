"""torch -> .pt2: the captured program as torch.export.save writes it, without the paths of the machine that made it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from edgekit.converters.base import Capture, Converter, quiet
from edgekit.types import Format


class TorchToPt2(Converter):
    format: ClassVar[Format] = Format.PT2

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        import torch

        program = capture.program
        buffer = io.BytesIO()  # torch's own writer turns a full disk into an error without a number
        with quiet(), _without_traces(program):
            torch.export.save(program, buffer)
        target.write_bytes(buffer.getbuffer())
        return ()


@contextmanager
def _without_traces(program: Any) -> Iterator[None]:
    """Takes the stack trace from each operator meanwhile: file names and source lines of whoever exports.

    Which module an operator comes from stands in ``nn_module_stack``, and stays.
    """
    nodes = [node for module in program.graph_module.modules() for node in module.graph.nodes]
    traces = [(node, node.meta.pop("stack_trace")) for node in nodes if "stack_trace" in node.meta]
    try:
        yield
    finally:
        for node, trace in traces:
            node.meta["stack_trace"] = trace
