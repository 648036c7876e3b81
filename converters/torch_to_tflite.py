"""torch -> TFLite by litert-torch, in a worker process.

The captured program travels as a ``.pt2`` file in a private folder; the worker is started in the background when an
export begins (its import costs seconds, which the ONNX export uses) and kept for later conversions of this process.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from edgekit import children
from edgekit.converters.base import Capture, ConversionOptions, Converter, Finish, narrowing_notes, quiet
from edgekit.errors import (
    ConversionError,
    RuntimeMissingError,
    WorkerCrashError,
    WorkerMemoryError,
    WorkerTimeoutError,
)
from edgekit.leftovers import process_folder
from edgekit.types import Format, Network

TIMEOUT_S = 1800.0
"""A conversion that takes longer is taken for hung. Unrolled recurrent layers take a minute or two."""
COMMAND = ("-m", "edgekit.converters.litert_worker")
LOG_LINES = 5


class TorchToTflite(Converter):
    format: ClassVar[Format] = Format.TFLITE
    packages: ClassVar[tuple[str, ...]] = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")
    background: ClassVar[bool] = True

    def suited(self, network: Network) -> Converter:
        from edgekit.source.foreign import is_foreign

        if is_foreign(network.module):
            from edgekit.converters.tensorflow_to_tflite import TensorflowToTflite

            return TensorflowToTflite()
        return self

    def check(self, network: Network, options: ConversionOptions) -> None:
        import importlib.util

        if importlib.util.find_spec("litert_torch") is None:
            raise RuntimeMissingError(
                "conversion to TFLite needs litert-torch, which is not installed here: pip install 'edgekit[host]'"
            )

    def warm_up(self) -> None:
        _worker().start()

    def begin(self, capture: Capture, target: Path) -> Finish:
        import torch

        _worker().start()
        program = capture.program
        signature = capture.signature
        path = process_folder() / f"program-{os.urandom(4).hex()}.pt2"
        buffer = io.BytesIO()  # torch's own writer turns a full disk into an error without a number
        with quiet():
            torch.export.save(program, buffer)
        path.write_bytes(buffer.getbuffer())
        pending = _worker().ask(
            {
                "program": str(path.absolute()),
                "target": str(target.absolute()),  # the worker keeps the folder it was started in
                "inputs": [spec.name for spec in signature.inputs],
                "outputs": [spec.name for spec in signature.outputs],
                "dynamic": [
                    {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} or None
                    for spec in signature.inputs
                ],
                "minimum": capture.minimum,
                "maximum": capture.maximum,
                "prefix": capture.prefix,
            }
        )

        def finish() -> tuple[str, ...]:
            try:
                answer = pending()
            finally:
                path.unlink()
            if "errno" in answer:
                raise OSError(answer["errno"], os.strerror(answer["errno"]), str(target))
            if "error" in answer:
                advice = "Replace that operation in the network, or export to another format"
                if capture.dims:
                    advice = f"It may convert with fixed sizes: leave {', '.join(capture.dims)} out for TFLite"
                raise ConversionError(
                    "tflite",
                    f"litert-torch cannot convert {capture.network.name!r}: {answer['error'].rstrip('.')}",
                    advice,
                    answer["detail"],
                )
            return (*narrowing_notes(signature), *answer["notes"])

        return finish

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        return self.begin(capture, target)()


class LitertWorker:
    """One worker process: started when first wanted, answers one request after the other, ends with this process."""

    def __init__(self) -> None:
        self._process: children.Process[bytes] | None = None
        self._lock = threading.RLock()
        self._log: Any = None
        self._asked = 0

    def start(self) -> None:
        """Starts the process if it does not run; returns at once, its imports go on in the background."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self.close()
            self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
            self._process = children.start(
                [sys.executable, *COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,  # so that select sees every answer that was not read
                start_new_session=True,  # Ctrl-C is the parent's to handle; it ends the worker
                env={**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(process_folder())},
            )

    def ask(self, request: dict[str, Any]) -> Any:
        """Sends a request and returns the function that waits for its answer. One request at a time."""
        self._lock.acquire()
        try:
            self.start()
            self._asked += 1
            number, process = self._asked, self._process
            assert process is not None and process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it died: reading the answer says why
                process.stdin.write(json.dumps({**request, "id": number}).encode() + b"\n")
                process.stdin.flush()
        finally:
            self._lock.release()
        return lambda: self._answer(process, number)

    def _answer(self, process: children.Process[bytes], number: int) -> dict[str, Any]:
        """The answer to request ``number``; answers to earlier ones, whose export failed meanwhile, are passed over."""
        while True:
            answer = self._next_answer(process)
            if answer.get("id", number) == number:
                return answer

    def _next_answer(self, process: children.Process[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while not select.select([process.stdout], [], [], 1.0)[0]:
                if time.monotonic() > deadline:
                    self.close()
                    raise WorkerTimeoutError(
                        f"litert-torch gave no file within {TIMEOUT_S:,.0f} s and was ended; a smaller or simpler "
                        "network (shorter sequences) converts faster"
                    )
            line = process.stdout.readline()
        except KeyboardInterrupt:
            self.close()
            raise
        if not line:
            raise self._death(process)
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def _death(self, process: children.Process[bytes]) -> Exception:
        status = process.wait()
        tail = self._tail()
        self.close()
        if status == -signal.SIGKILL:
            return WorkerMemoryError(
                "the conversion to TFLite was killed by the system, most likely because memory ran out; free memory, "
                "or convert on a larger machine"
            )
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return WorkerCrashError(f"the conversion to TFLite died ({how}); its last words:\n{tail}")

    def _tail(self) -> str:
        """The last lines the worker printed."""
        if self._log is None:
            return ""
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return (
            "\n".join(line for line in lines if line.strip())[-2000:]
            if len(lines) <= LOG_LINES
            else "\n".join(lines[-LOG_LINES:])
        )

    def close(self) -> None:
        """Ends the process, at once."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None


_shared: list[LitertWorker] = []


def _worker() -> LitertWorker:
    """The worker of this process, made when first asked for."""
    if not _shared:
        process_folder()  # made first, it is removed last, when the worker has ended
        _shared.append(LitertWorker())
        atexit.register(_shared[0].close)
    return _shared[0]
