"""edgekit: PyTorch networks to ONNX and TensorFlow Lite, proved, compressed, and timed on the target.

Each verb of the command line is a function here (``edgekit.export("cnn", to=["onnx"], out="build/")``), and
:func:`load` opens a model file. Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgekit.version import __version__

# onnxruntime 1.31 writes its telemetry while it is imported, through links as well: its own function that turns it off
# comes too late. Every process of edgekit passes here first, on a device too; who wants it sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgekit import recipe as recipe
    from edgekit.pipeline.bench import bench as bench
    from edgekit.pipeline.compare import compare as compare
    from edgekit.pipeline.doctor import doctor as doctor
    from edgekit.pipeline.evaluate import evaluate as evaluate
    from edgekit.pipeline.export import export as export
    from edgekit.pipeline.finetune import finetune as finetune
    from edgekit.pipeline.inspect import inspect as inspect
    from edgekit.pipeline.models import models as models
    from edgekit.pipeline.optimize import optimize as optimize
    from edgekit.pipeline.package import package as package
    from edgekit.pipeline.prune import prune as prune
    from edgekit.pipeline.report import report as report
    from edgekit.pipeline.run import run as run
    from edgekit.pipeline.schemes import quantize as quantize
    from edgekit.pipeline.train import train as train
    from edgekit.pipeline.verify import verify as verify
    from edgekit.runtime.base import Runner

__all__ = [
    "__version__",
    "bench",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "finetune",
    "inspect",
    "load",
    "models",
    "optimize",
    "package",
    "prune",
    "quantize",
    "recipe",
    "report",
    "run",
    "train",
    "verify",
]
VERBS = {name: name for name in set(__all__) - {"__version__", "load", "recipe"}} | {"quantize": "schemes"}
"""The verbs that are functions of this package -> their module in ``edgekit.pipeline``. ``recipe`` is a module with
three of them."""
ROOMS_NAMED_LIKE_VERBS = frozenset({"bench", "models", "report"})


def load(
    path: str | Path,
    *,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    isolated: bool = False,
    raw: bool = False,
    stateful: bool = False,
) -> Runner:
    """Opens a model file to run it: a context manager with ``run(feed) -> dict of arrays``.

    Args:
        path: an ``.onnx``, ``.tflite``, ``.pt2`` or ``.pte`` file, or a SavedModel folder.
        runtime: ``onnxruntime``, ``litert``, ``tflite-runtime``, ``torch``, ``tensorflow`` or ``executorch``, perhaps
            with what it is to run on (``onnxruntime:openvino``); None takes the first for the format.
        device: ``cpu``, ``cuda`` (a worker on a GPU of this machine), or ``python:/path/to/python`` for a worker in
            another environment.
        threads: threads of the runtime.
        isolated: run in a worker process, so that a crash of native code is an exception and not the end of yours.
            Always so where the runtime lies in an environment beside edgekit's.
        raw: take and give the integers of a quantized file instead of real values.
        stateful: keep the state of recurrent layers between runs; by default each run is a sequence of its own.

    Raises:
        ModelError: the file is missing or not valid.
        RuntimeMissingError: the runtime's package is not installed there.
    """
    from edgekit.runtime import interpreter_apart
    from edgekit.runtime import load as load_here

    if isolated or device != "cpu" or interpreter_apart(runtime, path):
        from edgekit.devices import open_runner

        return open_runner(path, device=device, runtime=runtime, threads=threads, raw=raw, stateful=stateful)
    return load_here(path, runtime=runtime, threads=threads, raw=raw, stateful=stateful)


def __getattr__(name: str) -> Any:
    if name in ROOMS_NAMED_LIKE_VERBS or name == "recipe":
        return importlib.import_module(f"edgekit.{name}")
    if name in VERBS:
        return _verb(name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")


def _verb(name: str) -> Any:
    if "IPython" in sys.modules:
        from edgekit.results.notebook import follow

        follow()
    return getattr(importlib.import_module(f"edgekit.pipeline.{VERBS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Room(ModuleType):
    """A subpackage whose name is also a verb: ``edgekit.bench(...)`` is the verb, ``edgekit.bench.clock`` the room."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _verb(self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    """Makes those subpackages callable when Python binds them here, so that the rooms need not know of the verbs."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ROOMS_NAMED_LIKE_VERBS and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
