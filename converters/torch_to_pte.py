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
from edgekit.devices.protocol import Message
from edgekit.environments import EXECUTORCH
from edgekit.errors import ConversionError, RuntimeMissingError, UnsupportedError
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
        require_executorch()

    def warm_up(self) -> None:
        if EXECUTORCH.python() is not None:
            WORKER.start()

    def begin(self, capture: Capture, target: Path) -> Finish:
        WORKER.start()
        largest = largest_sizes(capture)
        sizes = [
            {axis: largest[dim] for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
            for spec in capture.signature.inputs
        ]
        pending = program_sent(WORKER, capture.program, {"target": str(target), "largest": sizes})

        def finish() -> tuple[str, ...]:
            answer = pending()
            if "failed" in answer.header:
                failed, detail = answer.header["failed"].rstrip("."), answer.header["detail"]
                advice = "Replace that operation in the network, or export to another format"
                if capture.dims:
                    advice = f"It may convert with fixed sizes: leave {', '.join(capture.dims)} out for ExecuTorch"
                headline = f"ExecuTorch cannot convert {capture.network.name!r}: {failed}"
                raise ConversionError("pte", headline, advice, detail)
            self._tool = versions_of(answer, target)
            return tuple(
                f"dimension {name!r} goes up to {size} in the file: ExecuTorch plans memory for the largest"
                for name, size in largest.items()
                if name not in capture.maximum
            )

        return finish

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        return self.begin(capture, target)()


def largest_sizes(capture: Capture) -> dict[str, int]:
    """Name of a free dimension -> its largest size in the file: the network's own bound, else :data:`LARGEST`, or twice
    the size that the network is shown with where that is more."""
    shown = {
        dim: size
        for spec in capture.signature.inputs
        for dim, size in zip(spec.shape, capture.shown[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }
    return {dim: capture.maximum.get(dim, max(LARGEST, 2 * size)) for dim, size in shown.items()}


def require_executorch() -> None:
    """Raises RuntimeMissingError where there is no ExecuTorch: the message has the commands that bring it."""
    if EXECUTORCH.python() is None:
        raise RuntimeMissingError(
            f"conversion to ExecuTorch needs the package executorch, in an environment of its own: {EXECUTORCH.install}"
        )


def versions_of(answer: Message, target: Path) -> Mapping[str, str]:
    """Writes the file that an answer brings; which versions made it."""
    return dict(zip(("executorch", "torchao"), write_file(answer, target), strict=True))


def converted_file(program: Path, target: Path, samples: Path | None = None) -> Mapping[str, str]:
    """Writes ``target`` from the ``.pt2`` file ``program``; the versions that did it.

    Args:
        samples: an ``.npz`` to quantize by, see :func:`edgekit.converters.executorch_worker.convert`.

    Raises:
        UnsupportedError: ExecuTorch cannot convert or quantize it.
    """
    request = {"program": str(program.absolute()), "target": str(target), "samples": str(samples or "")}
    answer = WORKER.ask(request)()
    if "failed" in answer.header:
        done = "convert" if samples is None else "quantize"
        raise UnsupportedError(f"ExecuTorch cannot {done} {program}: {answer.header['failed'].rstrip('.')}")
    return versions_of(answer, target)


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
