"""torch -> ExecuTorch (``.pte``), lowered to XNNPACK, in a worker of an environment of its own.

The captured program travels as a ``.pt2`` file in a private folder; the worker is started in the background when an
export begins (its import costs seconds) and kept for later conversions of this process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from edgekit.converters.base import Capture, ConversionOptions, Converter, Finish
from edgekit.converters.sent import program_sent
from edgekit.converters.worker import (
    TIMEOUT_S,
    ConversionTransport,
    ConversionWorker,
    OtherPythonTransport,
    write_file,
)
from edgekit.environments import EXECUTORCH
from edgekit.errors import ConversionError, RuntimeMissingError
from edgekit.types import Format, Network

LARGEST = 64
"""Largest size of a free axis that memory is planned for, where the network itself sets no smaller one."""


class TorchToPte(Converter):
    """One for each export: it keeps which ExecuTorch made the file."""

    format: ClassVar[Format] = Format.PTE
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    background: ClassVar[bool] = True

    def __init__(self) -> None:
        self._tool: Mapping[str, str] = {}

    @property
    def versions(self) -> Mapping[str, str]:
        return {**super().versions, **self._tool}

    def check(self, network: Network, options: ConversionOptions) -> None:
        if EXECUTORCH.python() is None:
            raise RuntimeMissingError(
                "conversion to ExecuTorch needs the package executorch, in an environment of its own: "
                f"{EXECUTORCH.install}"
            )

    def warm_up(self) -> None:
        if EXECUTORCH.python() is not None:
            WORKER.start()

    def begin(self, capture: Capture, target: Path) -> Finish:
        WORKER.start()
        pending = program_sent(WORKER, capture.program, {"target": str(target)})

        def finish() -> tuple[str, ...]:
            answer = pending()
            if "failed" in answer.header:
                failed, detail = answer.header["failed"].rstrip("."), answer.header["detail"]
                advice = "Replace that operation in the network, or export to another format"
                if capture.dims:
                    advice = f"It may convert with fixed sizes: leave {', '.join(capture.dims)} out for ExecuTorch"
                headline = f"ExecuTorch cannot convert {capture.network.name!r}: {failed}"
                raise ConversionError("pte", headline, advice, detail)
            version, *notes = write_file(answer, target)
            self._tool = {"executorch": version}
            return tuple(notes)

        return finish

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        return self.begin(capture, target)()


def _transport() -> ConversionTransport:
    python, subject = EXECUTORCH.python(), "the conversion to ExecuTorch"
    if python is None or python == sys.executable:
        return ConversionTransport(subject)
    return OtherPythonTransport(subject, python, "executorch")


WORKER = ConversionWorker(
    "executorch",
    f"ExecuTorch gave no file within {TIMEOUT_S:,.0f} s and was ended; a smaller or simpler network (shorter "
    "sequences) converts faster",
    _transport,
)
"""The one of this process."""
