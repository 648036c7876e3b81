"""SavedModel -> TFLite by TensorFlow's own converter, in a process of its own.

TensorFlow operators that TFLite has not (Flex) are let in only where it cannot do without, and are then named.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from edgekit import children
from edgekit.converters.base import Capture, ConversionOptions, Converter
from edgekit.errors import (
    RuntimeMissingError,
    UnsupportedError,
    WorkerCrashError,
    WorkerMemoryError,
    WorkerTimeoutError,
)
from edgekit.leftovers import process_folder
from edgekit.source.foreign import RunnerModule
from edgekit.types import Card, Format, Network

TIMEOUT_S = 1800.0
"""A conversion that takes longer is taken for hung."""
LOG_LINES = 5
FLEX_PYTHON = "EDGEKIT_FLEX_PYTHON"
"""The interpreter of an environment whose TensorFlow brings Flex operators: files that need them are proved there."""


class TensorflowToTflite(Converter):
    format: ClassVar[Format] = Format.TFLITE
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tensorflow-cpu", "keras")

    def check(self, network: Network, options: ConversionOptions) -> None:
        if importlib.util.find_spec("tensorflow") is None:
            raise RuntimeMissingError(
                "conversion of a SavedModel needs tensorflow, which is not installed here: pip install "
                "'edgekit[tensorflow]'"
            )
        for given, option in ((options.dynamic, "--dynamic"), (options.channels_last, "--channels-last")):
            if given:
                raise UnsupportedError(
                    f"{option} cannot be honoured for a SavedModel: its shapes and layout are those of its signature"
                )

    def card(self, capture: Capture) -> Card:
        """The network's card: TensorFlow keeps the types and names of the signature."""
        return capture.network.card

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        module = capture.network.module
        assert isinstance(module, RunnerModule)  # Converter.suited chose this converter for it
        answer = _converted(module.artifact.path, target, capture.network.name)
        if "error" in answer:
            raise UnsupportedError(
                f"tensorflow cannot convert {capture.network.name!r}: {answer['error']}. Replace that operation in the "
                "model"
            )
        flex = answer["flex"]
        self.runs_on = "tensorflow" if flex else "litert"
        if not flex:
            return ()
        python = os.environ.get(FLEX_PYTHON)
        if python:
            self.proved_on = f"python:{python}"
        return (
            f"needs TensorFlow's own operators (Flex: {', '.join(flex)}): it runs where TensorFlow brings them (up to "
            "2.19, --on python:PATH of an environment with it), not with litert or tflite-runtime",
        )


def _converted(folder: Path, target: Path, name: str) -> dict[str, Any]:
    """The worker's answer.

    Raises:
        DeviceError: it died, or hung.
    """
    command = [sys.executable, "-m", "edgekit.converters.tensorflow_worker", str(folder), str(target)]
    own = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **own, "TMPDIR": str(process_folder())}
    with tempfile.TemporaryFile() as log:
        try:
            done = children.run(command, stderr=log, timeout=TIMEOUT_S, env=environment)
        except subprocess.TimeoutExpired as error:
            raise WorkerTimeoutError(f"tensorflow gave no file for {name!r} within {TIMEOUT_S:,.0f} s") from error
        if done.returncode == 0:
            answer = json.loads(done.stdout)
            assert isinstance(answer, dict)
            if "errno" in answer:
                raise OSError(answer["errno"], os.strerror(answer["errno"]), str(target))
            return answer
        log.seek(0)
        tail = "\n".join(log.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:])
    if done.returncode == -signal.SIGKILL:
        raise WorkerMemoryError(
            "the conversion by tensorflow was killed by the system, most likely because memory ran out; free memory"
        )
    raise WorkerCrashError(f"the conversion by tensorflow died (status {done.returncode}); its last words:\n{tail}")
