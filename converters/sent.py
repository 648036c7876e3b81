"""A captured program on its way to the worker that converts it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.converters.base import quiet
from edgekit.converters.worker import ConversionWorker
from edgekit.devices.protocol import Message
from edgekit.leftovers import process_folder

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def program_sent(
    worker: ConversionWorker, program: ExportedProgram, request: Mapping[str, Any]
) -> Callable[[], Message]:
    """Asks ``worker`` for a conversion of ``program``, which lies in a private folder meanwhile: the request has its
    path as ``program``. Returns the function that waits for the answer, and raises as :meth:`ConversionWorker.ask`."""
    import torch

    path = process_folder() / f"program-{os.urandom(4).hex()}.pt2"
    buffer = io.BytesIO()  # torch's own writer turns a full disk into an error without a number
    with quiet():
        torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())
    pending = worker.ask({"program": str(path.absolute()), **request})

    def answer() -> Message:
        try:
            return pending()
        finally:
            path.unlink()

    return answer
