"""What a worker is asked for: models, files, runs, times, facts of the device."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit.artifact import onnx_parts, sha256_file
from edgekit.bench.clock import TimedBlock, WarmupRule
from edgekit.devices.connection import Connection
from edgekit.devices.functions import COMMAND, DeviceFunction
from edgekit.devices.progress import sending
from edgekit.devices.protocol import Message
from edgekit.devices.schema import REPLIES, check_outputs, check_signature, output_bytes
from edgekit.documents import typed
from edgekit.errors import DeviceError, ModelError, ProtocolError, UsageError
from edgekit.inputs import require_regular
from edgekit.results.loaded import Delegation
from edgekit.runtime import candidates
from edgekit.types import Array, Card, Feed, Format, Signature

CHUNK_BYTES: Final = 1 << 20
"""Bytes of a file in one message: one answer each, so that the time-out holds for a chunk and not for the file."""
_FASTEST_NS: Final = 50
"""No call through Python takes less: so many samples a block can have at most."""


def _plain_suffix(file: Path) -> str:
    """The suffix, where it is one that a device takes; the runtimes there go by it."""
    suffix = file.suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,10}", suffix) else ""


@dataclass(frozen=True, slots=True)
class LoadedInfo:
    """A model that a worker has loaded. ``peak_memory_bytes``: resident, right after loading; None: not known.

    ``resident``: timed runs hold no copies to and from the accelerator, whose name is ``chip``.
    """

    signature: Signature
    load_ns: int
    runtime: str
    runtime_version: str
    delegation: Delegation | None
    peak_memory_bytes: int | None
    resident: bool = False
    chip: str | None = None


class WorkerClient(Connection):
    """The commands of one worker process; see :class:`~edgekit.devices.connection.Connection` for what may end it."""

    _signature, _carded = Signature((), ()), False

    def load(
        self,
        path: str | Path,
        *,
        runtime: str | None = None,
        threads: int = 1,
        raw: bool = False,
        stateful: bool = False,
        card: Card | None = None,
        carded: bool = True,
        compiled: str = "",
    ) -> LoadedInfo:
        """Loads a model file, in place of the one before; see :func:`edgekit.runtime.load`.

        ``card``: of the file; the signature that the device gives has to be the card's then, and outputs have the sizes
        that the card names. ``compiled``: a file of the device.
        """
        runtime = runtime or self._transport.runtime or None
        asked: dict[str, Any] = {"runtime": runtime, "threads": threads, "raw": raw, "stateful": stateful}
        asked["carded"] = carded
        if compiled:
            asked["compiled"] = compiled
        if self._transport.runs_on != "cpu":
            asked["device"] = self._transport.runs_on
        try:
            value = self._ask("load", path=self.place(path), **asked).header
        except DeviceError as error:  # only now: the device may know a runtime that is not known here
            raise _mistake(Path(path), runtime, self._transport.runs_on, threads) or error from None
        with self._checking("load"):
            loaded = typed(LoadedInfo, value, "value")
            check_signature(loaded.signature, card)
        self._signature, self._carded = loaded.signature, card is not None
        return loaded

    @property
    def shares_files(self) -> bool:
        """Whether the worker finds the files of this machine under the same names."""
        return self._transport.shares_files

    def place(self, path: str | Path) -> str:
        """What the worker calls a file of this machine; brings it to the device where that is needed."""
        return os.path.abspath(path) if self._transport.shares_files else self.send(path)

    def send(self, path: str | Path) -> str:
        """Brings a file to the device, by its content: what is there already is not sent again.

        An ONNX file takes the files along in which its weights lie.

        Returns:
            What the worker calls it.

        Raises:
            ModelError: it cannot be read.
            TransferError: it did not arrive as it was sent, or there is no room for it.
        """
        file = require_regular(path, ModelError, "a file to send")
        try:
            parts = onnx_parts(file) if file.suffix.lower() == ".onnx" else {}
            place, named = self._send_one(file)
            if parts:
                files = [{**named, "name": f"{named['sha256']}.onnx"}]
                files += [{**self._send_one(part)[1], "name": location} for location, part in parts.items()]
                place = self._ask("together", files=files).header["path"]
        except OSError as error:
            raise ModelError(f"{file} cannot be read: {error.strerror}") from error
        self._sent[place] = file
        return place

    def _send_one(self, file: Path) -> tuple[str, dict[str, Any]]:
        """Where the file lies there, and how it is named on the way."""
        named: dict[str, Any] = {
            "sha256": sha256_file(file),
            "suffix": _plain_suffix(file),
            "bytes": file.stat().st_size,
        }
        place = self._ask("find", **named).header["path"]
        return place or self._send(file, named), named

    def forget(self, path: str | Path) -> None:
        """Removes a file that was sent, unless another worker uses it."""
        file = Path(path)
        parts = onnx_parts(file).values() if file.suffix.lower() == ".onnx" else ()
        for one in (file, *parts):
            self._ask("forget", sha256=sha256_file(one), suffix=_plain_suffix(one))

    def put_piece(self, chunk: Array, *, sha256: str, suffix: str, size: int) -> None:
        """Sends one whole file in one piece under the name it is said to have; the device decides whether it has."""
        self._ask("put", {"chunk": chunk}, sha256=sha256, suffix=suffix, bytes=size, offset=0, last=True)

    def storage(self) -> dict[str, Any]:
        """``folder`` where files are kept there, ``free_bytes`` of its disk, ``kept_bytes`` in it."""
        return dict(self._ask("storage").header)

    def lease(self, owner: str, seconds: float) -> Mapping[str, Any] | None:
        """Takes the lease of the device for this worker's life; who holds it, where somebody does (``lease.py``)."""
        found: Mapping[str, Any] | None = self._ask("lease", owner=owner, seconds=seconds).header["holder"]
        return found

    def lease_is_mine(self) -> bool:
        """Whether nobody has taken the lease over."""
        return bool(self._ask("lease_is_mine").header["mine"])

    def holder(self) -> Mapping[str, Any] | None:
        """Who holds the lease of the device, None when nobody does."""
        found: Mapping[str, Any] | None = self._ask("holder").header["holder"]
        return found

    def wait(self, seconds: float, *, timeout_s: float) -> None:
        """Has the worker do nothing for ``seconds``; shows what becomes of one that takes longer than it may."""
        self._ask("wait", timeout_s=timeout_s, seconds=seconds)

    def _send(self, file: Path, named: Mapping[str, Any]) -> str:
        with open(file, "rb") as source, sending(file.name, int(named["bytes"]), self.name) as note:
            offset = 0
            while True:
                chunk = np.frombuffer(source.read(CHUNK_BYTES), np.uint8)
                last = chunk.size < CHUNK_BYTES
                place = self._ask("put", {"chunk": chunk}, offset=offset, last=last, **named).header["path"]
                offset += chunk.size
                note(offset)
                if last and place is None:
                    raise self._end(ProtocolError(f"{self.name} does not say where it keeps {file.name}"))
                if last:
                    return str(place)

    def run(self, feed: Feed, *, timeout_s: float | None = None) -> dict[str, Array]:
        """One inference; see :meth:`edgekit.runtime.Runner.run`."""
        arrays = self._ask("run", feed, timeout_s=timeout_s, array_bytes=output_bytes(self._signature, feed)).arrays
        with self._checking("run"):
            check_outputs(arrays, self._signature, feed, named=self._carded)
        return dict(arrays)

    def reset(self) -> None:
        """Puts the model's variable state back to its start."""
        self._ask("reset")

    def time_block(
        self, feed: Feed, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int, repeat: int = 1
    ) -> TimedBlock:
        """Times the barest call of the runtime in the worker; see :func:`edgekit.bench.clock.time_calls`.

        ``repeat``: calls that one sample is made of.
        """
        limit_s = self._timeout_s + (warmup.max_ns + max_ns) / 1e9
        rule: dict[str, Any] = {"warmup": asdict(warmup), "min_runs": min_runs, "min_ns": min_ns, "max_ns": max_ns}
        rule["repeat"] = repeat
        most = max(min_runs, warmup.min_runs, max(max_ns, warmup.max_ns) // _FASTEST_NS) + 1
        wanted = replace(REPLIES["time_block"], most=most)
        reply = self._ask("time_block", feed, timeout_s=limit_s, reply=wanted, **rule)
        arrays, header = reply.arrays, reply.header
        return TimedBlock(arrays["samples_ns"], arrays["warmup_ns"], header["suspended_ns"], header["discarded"])

    def reference_ns(self) -> int:
        """Nanoseconds of the fixed reference work on the device; see :mod:`edgekit.bench.reference_workload`."""
        return int(self._ask("reference").header["ns"])

    def measure(self, what: DeviceFunction, feed: Feed | None = None, *, timeout_s: float, **values: Any) -> Message:
        """Runs ``what`` where the model is, on ``feed`` and ``values``: its value in the header, and arrays.

        ``timeout_s``: what the function itself may take; the time to answer comes on top.
        """
        how: dict[str, Any] = {"timeout_s": self._timeout_s + timeout_s, "reply": what.reply, "name": what.name}
        return self._ask(COMMAND, feed, function=what.place, **how, **values)

    def environment(self) -> dict[str, Any]:
        """:func:`edgekit.bench.environment.environment` of the worker."""
        return dict(self._ask("environment").header)

    def peak_memory_bytes(self) -> int | None:
        """Largest resident memory of the worker so far, interpreter and libraries included; None: not known."""
        peak: int | None = self._ask("memory").header["peak_memory_bytes"]
        return peak


def _mistake(path: Path, runtime: str | None, device: str, threads: int) -> UsageError | None:
    """What is wrong with asking for this, as far as it is known here; None where nothing is.

    A device does not say what the user did wrong: that error has an exit code of its own.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if not path.is_dir() and suffix not in list(Format):
        return None
    try:
        candidates(path, Format.SAVED_MODEL if path.is_dir() else Format(suffix), runtime, device, threads)
    except UsageError as error:
        return error
    return None
