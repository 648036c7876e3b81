"""The device floor imports with numpy alone; the directions between the rooms are checked, and the check can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FLOOR = (
    "graph.layers", "graph.macs", "graph.ops",
    "types", "errors", "registry", "version", "children", "leftovers", "outputs", "locks", "limits", "inputs",
    "artifact", "model_metadata", "tflite_metadata", "flatbuffer_writer",
    "protobuf_reader", "flatbuffer_reader",
)  # fmt: skip
ROOMS = ("runtime", "data", "bench", "devices", "extras")
BLOCKED = (
    "torch", "onnx", "onnxruntime", "tensorflow", "tflite_runtime", "ai_edge_litert", "ai_edge_quantizer",
    "litert_torch", "click", "rich", "sklearn", "scipy", "PIL", "safetensors", "lightning_fabric", "torch_pruning",
    "psutil",
)  # fmt: skip
PROGRAM = """
import importlib, importlib.abc, sys
blocked = set({blocked!r})
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by the test)", name=name)
sys.meta_path.insert(0, Blocker())
for name in {names!r}:
    importlib.import_module(name)
print(len({names!r}))
"""


def _floor_modules(root: Path) -> list[str]:
    inside = [f"edgekit.{room}" for room in ROOMS]
    files = [
        file for room in ROOMS for file in sorted((root / "edgekit" / room).rglob("*.py")) if file.stem != "__init__"
    ]
    names = [".".join(file.relative_to(root).with_suffix("").parts) for file in files]
    return [f"edgekit.{name}" for name in FLOOR] + inside + names


def test_device_floor_imports_with_numpy_only(root: Path, tmp_path: Path) -> None:
    names = [name for name in _floor_modules(root) if not name.endswith("__main__")]
    program = PROGRAM.format(blocked=BLOCKED, names=names)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(names) > 20


def test_floor_check_can_fail(tmp_path: Path) -> None:
    program = PROGRAM.format(blocked=BLOCKED, names=["edgekit.cli.program"])
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "No module named 'click' (blocked by the test)" in done.stderr


@pytest.fixture(scope="module")
def package(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package laid out as it is installed, and the contracts beside it."""
    folder = tmp_path_factory.mktemp("layers")
    plain = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(root / "edgekit", folder / "edgekit", ignore=plain)
    for mapped in ("models", "converters"):
        shutil.copytree(root / mapped, folder / "edgekit" / mapped, ignore=plain)
    shutil.copy(root / "pyproject.toml", folder)
    return folder


def _directions(folder: Path) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("lint-imports"))
    # The folder first on the path, so that the copy is looked at and not the installed package.
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(folder)!r})\n"
        f"sys.argv = ['lint-imports', '--config', 'pyproject.toml', '--no-cache']\n"
        f"runpy.run_path({program!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_rooms_import_downwards_only(package: Path) -> None:
    done = _directions(package)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("edgekit/types.py", "import edgekit.pipeline.run", "A room imports downwards only"),
        ("edgekit/bench/clock.py", "import torch", "The device floor and the ground need numpy and one runtime"),
    ],
)
def test_directions_check_can_fail(package: Path, file: str, line: str, broken: str) -> None:
    place = package / file
    kept = place.read_text()
    place.write_text(f"{kept}\n{line}\n")
    try:
        done = _directions(package)
    finally:
        place.write_text(kept)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout
