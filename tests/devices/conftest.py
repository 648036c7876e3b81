"""Model files, the second environment, and workers that misbehave on purpose."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.devices.client import WorkerClient
from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Start
from edgekit.types import DeviceSpec

CPU = DeviceSpec("cpu", "cpu")


@pytest.fixture(scope="session")
def files(root: Path) -> ModuleType:
    """The module ``tests/runtime/files.py``."""
    name = "edgekit_tests_files"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, root / "tests" / "runtime" / "files.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def other_python(root: Path) -> str:
    """The interpreter of the environment with tflite-runtime and numpy 1, which ``scripts/test`` makes."""
    path = os.environ.get("EDGEKIT_TFLITE_PYTHON") or str(root / ".venv-tflite" / "bin" / "python")
    if not os.access(path, os.X_OK):
        pytest.skip("needs .venv-tflite or $EDGEKIT_TFLITE_PYTHON: run scripts/test")
    return path


class BrokenTransport(LocalTransport):
    """The real worker program, whose command ``reset`` runs ``body`` instead (worker, os, sys, time are at hand)."""

    def __init__(self, script: Path, body: str) -> None:
        super().__init__(CPU)
        self._script = script
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        script.write_text(
            "import ctypes, os, signal, sys, time\nimport numpy as np\nfrom edgekit.devices import protocol, worker\n"
            f"def misbehave(self, message):\n{lines}\n    return protocol.Message({{}})\n"
            "worker.Worker.reset = misbehave\nsys.exit(worker.main())\n"
        )

    def command(self, start: Start) -> list[str]:
        return [sys.executable, str(self._script), *start.arguments]


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., WorkerClient]:
    """``broken(body, **options)``: a worker whose ``reset()`` does what the Python text ``body`` says."""

    def make(body: str, **options: object) -> WorkerClient:
        return WorkerClient(BrokenTransport(tmp_path / "misbehave.py", body), **options)  # type: ignore[arg-type]

    return make
