"""TensorFlow Lite for Microcontrollers on this machine: its operators, what memory a file takes, what it answers.

Its interpreter for Python (``tflite-micro``) has pins of its own, so that it lives in an environment beside edgekit's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import children
from edgekit.errors import ModelError, WorkerCrashError, WorkerTimeoutError
from edgekit.leftovers import scratch_folder
from edgekit.types import Array

PYTHON = "EDGEKIT_TFLM_PYTHON"
"""The interpreter of an environment that has ``tflite-micro``; without it ``.venv-tflm`` of the working folder."""
INSTALL = "python3 -m venv .venv-tflm && .venv-tflm/bin/pip install tflite-micro"
OPERATORS = frozenset({
    "ABS", "ADD", "ADD_N", "ARG_MAX", "ARG_MIN", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D", "BATCH_MATMUL",
    "BATCH_TO_SPACE_ND", "BROADCAST_ARGS", "BROADCAST_TO", "CALL_ONCE", "CAST", "CEIL", "CONCATENATION", "CONV_2D",
    "COS", "CUMSUM", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "DYNAMIC_UPDATE_SLICE", "ELU",
    "EMBEDDING_LOOKUP", "EQUAL", "EXP", "EXPAND_DIMS", "FILL", "FLOOR", "FLOOR_DIV", "FLOOR_MOD",
    "FULLY_CONNECTED", "GATHER", "GATHER_ND", "GREATER", "GREATER_EQUAL", "HARD_SWISH", "IF", "L2_NORMALIZATION",
    "L2_POOL_2D", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR",
    "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG",
    "NOT_EQUAL", "PACK", "PAD", "PADV2", "PRELU", "QUANTIZE", "READ_VARIABLE", "REDUCE_MAX", "REDUCE_MIN", "RELU",
    "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT", "SELECT_V2",
    "SHAPE", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT",
    "SQUARE", "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "SVDF", "TANH", "TRANSPOSE",
    "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK", "VAR_HANDLE", "WHILE", "ZEROS_LIKE",
})  # fmt: skip
"""Built-in operators of the schema that tflite-micro of October 2026 registers (functions ``Register_*``)."""
_METHODS: Mapping[str, str] = {
    "PADV2": "PadV2", "CUMSUM": "CumSum", "BATCH_MATMUL": "BatchMatMul",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}  # fmt: skip
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_STEP = 1024
_SECONDS = 120
_SCRIPT = """\
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
path, folder, size = sys.argv[1:]
interpreter = runtime.Interpreter.from_file(path, arena_size=int(size) or None)
feed = np.load(folder + "/feed.npz")
for k in range(len(feed.files) - 1):
    interpreter.set_input(feed[str(k)], k)
interpreter.invoke()
np.savez(folder + "/made.npz", **{str(k): interpreter.get_output(k) for k in range(int(feed["outputs"]))})
interpreter.print_allocations()
"""


@dataclass(frozen=True, slots=True)
class MicroRun:
    """One run of a file. ``arena_bytes``: of memory that was enough; ``outputs``: in the order of the file."""

    arena_bytes: int
    outputs: tuple[Array, ...]


def method(operator: str) -> str:
    """``AddConv2D`` of ``CONV_2D``: what registers an operator with a MicroMutableOpResolver."""
    words = _METHODS.get(operator) or "".join(part[0] + part[1:].lower() for part in operator.split("_"))
    return "Add" + re.sub(r"(\d)d$", r"\1D", words)


def missing(operators: Iterable[str]) -> tuple[str, ...]:
    """Those that it has not."""
    return tuple(name for name in operators if name not in OPERATORS)


def interpreter() -> str | None:
    """The Python that has tflite-micro: this one, the named one, or that of ``.venv-tflm``; None without."""
    if find_spec("tflite_micro") is not None:
        return sys.executable
    named = os.environ.get(PYTHON)
    beside = Path(".venv-tflm") / "bin" / "python"
    return named or (str(beside.absolute()) if beside.is_file() else None)


def run(python: str, path: Path, feed: Sequence[Array], outputs: int) -> MicroRun:
    """Runs the file twice: for what it answers and takes, then with that much memory.

    Raises:
        ModelError: it does not accept the file.
        WorkerCrashError, WorkerTimeoutError: what became of its process.
    """
    with scratch_folder() as folder:
        arrays: dict[str, Any] = {"outputs": np.int64(outputs), **{str(k): array for k, array in enumerate(feed)}}
        np.savez(folder / "feed.npz", **arrays)
        said = _run(python, path, folder, 0)
        found = _TOTAL.search(said)
        if found is None:
            raise WorkerCrashError(f"tflite-micro ran {path} and did not say what memory it took")
        size = -(-int(found[1]) // _STEP) * _STEP
        while True:  # what planning takes for a moment is not in that figure
            try:
                _run(python, path, folder, size)
                break
            except ModelError:
                if size > 2 * int(found[1]) + 4 * _STEP:
                    raise
                size += max(size // 16 // _STEP * _STEP, _STEP)
        with np.load(folder / "made.npz") as made:
            return MicroRun(size, tuple(made[str(k)] for k in range(outputs)))


def _run(python: str, path: Path, folder: Path, size: int) -> str:
    try:
        done = children.run(
            [python, "-I", "-c", _SCRIPT, str(path.absolute()), str(folder), str(size)], timeout=_SECONDS
        )
    except OSError as error:
        raise WorkerCrashError(f"{python} cannot be started: {error}; {PYTHON} names it ({INSTALL})") from error
    except subprocess.TimeoutExpired as error:
        raise WorkerTimeoutError(f"tflite-micro did not run {path} within {_SECONDS} s") from error
    if done.returncode < 0:
        raise WorkerCrashError(f"tflite-micro crashed on {path} (signal {-done.returncode}): {_last(done.stderr)}")
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr:
            raise WorkerCrashError(f"{python} has no tflite-micro: {INSTALL}")
        raise ModelError(f"tflite-micro does not run {path}: {_last(done.stderr)}")
    return str(done.stderr) + str(done.stdout)


def _last(text: str) -> str:
    """What a program said before its end, without the lines of its trace."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("  ", "Traceback"))]
    return "; ".join(lines[-3:])[:400] or "it said nothing"
