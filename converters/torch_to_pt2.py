"""torch -> .pt2: the captured program as torch.export.save writes it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

from edgekit.converters.base import Capture, Converter, quiet

from edgekit.types import Format


class TorchToPt2(Converter):
    format: ClassVar[Format] = Format.PT2

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        import torch

        program = capture.program
        buffer = io.BytesIO()  # torch's own writer turns a full disk into an error without a number
        with quiet():
            torch.export.save(program, buffer)
        target.write_bytes(buffer.getbuffer())
        return ()
