"""A worker in an environment with numpy 1 and tflite-runtime only: no edgekit, no click, nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.devices import archive, open_runner, open_worker
from edgekit.devices.archive import floor_archive
from edgekit.runtime import load


def test_the_environment_is_as_bare_as_a_board(other_python: str) -> None:
    program = (
        "import importlib.util as u\n"
        "names = ('edgekit', 'click', 'rich', 'torch', 'onnx', 'onnxruntime', 'ai_edge_litert', 'PIL')\n"
        "print([name for name in names if u.find_spec(name)])\n"
        "import numpy; print(numpy.__version__)"
    )
    done = subprocess.run([other_python, "-P", "-c", program], capture_output=True, text=True, check=True, cwd="/")
    found, version = done.stdout.split("\n")[:2]
    assert found == "[]" and version.startswith("1.")


WHICH = (
    "import sys; sys.path.insert(0, sys.argv[1]); import edgekit.devices.worker\n"
    "print({m.__file__.rpartition('.')[2] for n, m in sys.modules.items() if n.partition('.')[0] == 'edgekit'})"
)
"""Prints how the files end that edgekit's modules were read from."""


def test_modules_come_compiled(other_python: str) -> None:
    """What an interpreter of this version would compile anew at each start."""
    with zipfile.ZipFile(floor_archive()) as made:
        content = [made.read(name) for name in made.namelist() if name.endswith(".pyc")]
    assert not [one for one in content if str(Path(archive.__file__).parent).encode() in one]
    done = subprocess.run([other_python, "-P", "-c", WHICH, str(floor_archive())], capture_output=True, text=True)
    assert done.stdout == "{'pyc'}\n", done.stderr


def test_an_interpreter_of_another_version_takes_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "MAGIC_NUMBER", b"\x00\x00\r\n")
    archive._members.cache_clear()
    try:
        made = floor_archive.__wrapped__("# another version")
    finally:
        archive._members.cache_clear()
    done = subprocess.run([sys.executable, "-P", "-c", WHICH, str(made)], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "{'py'}\n", done.stderr


def test_every_module_of_the_floor_imports_there(other_python: str) -> None:
    """None may need more than numpy before it is used: neither another package nor a module left out of the archive."""
    program = (
        "import importlib, pkgutil, sys; sys.path.insert(0, sys.argv[1]); import edgekit\n"
        "names = [m.name for m in pkgutil.walk_packages(edgekit.__path__, 'edgekit.')]\n"
        "[importlib.import_module(name) for name in names]; print(len(names))\n"
        "print([m for m in ('torch', 'onnx', 'tensorflow', 'click', 'tflite_runtime') if m in sys.modules])"
    )
    done = subprocess.run(
        [other_python, "-P", "-c", program, str(floor_archive())], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    count, loaded = done.stdout.split("\n")[:2]
    assert int(count) > 25 and loaded == "[]"


def test_a_float_and_an_integer_file_give_what_litert_gives(
    files: ModuleType, tmp_path: Path, other_python: str
) -> None:
    generator = np.random.default_rng(1)
    dense = files.dense_tflite(tmp_path / "float.tflite", dynamic=True)
    integer = files.conv_int8_tflite(tmp_path / "int8.tflite")
    with open_runner(dense, device=f"python:{other_python}") as there, load(dense) as here:
        assert (there.name, there.version) == ("tflite-runtime", "2.14.0")
        assert there.signature == here.signature
        for batch in (1, 4):
            x = generator.standard_normal((batch, 4), dtype=np.float32)
            # 4 products of at most 11 x 4: a few units in the last place of 100
            assert np.abs(there.run({"x": x})["y"] - here.run({"x": x})["y"]).max() < 1e-4
    with open_runner(integer, device=f"python:{other_python}") as there, load(integer) as here:
        assert there.signature == here.signature and there.signature.inputs[0].dtype == "float32"
        taken = there.delegation()
        assert taken is not None and taken.nodes == 1
        image = generator.uniform(-3, 3, (1, 8, 8, 3)).astype(np.float32)
        ours, theirs = there.run({"image": image})["features"], here.run({"image": image})["features"]
        assert np.abs(ours - theirs).max() <= 0.25  # one step of the output's scale: XNNPACK's rounding changed since
        assert np.mean(ours != theirs) < 0.02
        assert np.abs(ours - files.conv_int8_by_hand(image)).max() <= 0.25
    with open_runner(integer, device=f"python:{other_python}", raw=True) as runner:
        out = runner.run({"image": np.zeros((1, 8, 8, 3), np.int8)})["features"]
        assert out.dtype == np.int8


def test_timing_and_state_there(files: ModuleType, tmp_path: Path, other_python: str) -> None:
    from edgekit.bench.clock import WarmupRule

    with open_worker(f"python:{other_python}") as client:
        assert client.hello["runtimes"]["tflite-runtime"] == "2.14.0"
        assert client.environment()["versions"]["numpy"].startswith("1.")
        info = client.load(files.recurrent_tflite(tmp_path / "m.tflite"))
        assert info.runtime == "tflite-runtime" and info.load_ns > 0
        feed = {"x": np.ones((1, 3, 2), np.float32)}
        assert [client.run(feed)["y"][0, 0, 0] for _ in range(2)] == [1, 1]
        block = client.time_block(feed, warmup=WarmupRule(0, 0, 0), min_runs=20, min_ns=0, max_ns=10**10)
        assert block.samples_ns.size == 20


def test_a_custom_operator_is_a_model_error_there_too(files: ModuleType, tmp_path: Path, other_python: str) -> None:
    from edgekit.errors import ModelError

    with pytest.raises(ModelError, match=r"the custom operator Frobnicate is unknown to tflite-runtime 2\.14\.0"):
        open_runner(files.custom_op_tflite(tmp_path / "m.tflite"), device=f"python:{other_python}")
