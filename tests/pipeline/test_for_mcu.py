"""``--for mcu``: what is published runs on TensorFlow Lite for Microcontrollers, and gives there what LiteRT gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from torch import nn

import edgekit
from edgekit.artifact import open_artifact
from edgekit.devices import WorkerClient, parse_device
from edgekit.devices.device import transport_for
from edgekit.environments import TFLM
from edgekit.errors import ParityError, QualityError, RuntimeMissingError, UnsupportedError
from edgekit.flatbuffer_reader import has_outside_buffers, without_prefix
from edgekit.graph import micro
from edgekit.types import Array, Feed

BARE = """\
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 22)
found = []
for x in np.load(sys.argv[2]):
    interpreter.set_input(x, 0)
    interpreter.invoke()
    found.append(interpreter.get_output(0))
np.save(sys.argv[3], np.stack(found))
"""


@pytest.fixture(autouse=True)
def python(tflm_python: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(TFLM.variable, tflm_python)
    return tflm_python


@pytest.fixture(scope="module")
def folder(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """``m.tflite`` and ``m.onnx``, of a network whose tanh makes several steps of one, and samples for it. Google's
    quantizer puts 256 KB of weights and more behind the flatbuffer."""

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        layers = nn.Linear(64, 2100), nn.ReLU(), nn.Linear(2100, 64), nn.Tanh()
        edgekit.export(nn.Sequential(*layers).eval(), torch.zeros(1, 64), to=["tflite", "onnx"], out=folder, name="m")
        np.savez(folder / "d.npz", input=np.random.default_rng(0).standard_normal((60, 64)).astype(np.float32))

    return once("for_mcu", make)


def asked(folder: Path, out: Path) -> dict[str, object]:
    return {"scheme": "int8", "data": f"npz:{folder / 'd.npz'}", "for_": "mcu", "out": out, "min_snr": 10.0}


def test_it_runs_there_as_the_bare_interpreter_says(folder: Path, tmp_path: Path, python: str) -> None:
    path = tmp_path / "q.tflite"
    made = edgekit.quantize(folder / "m.tflite", **asked(folder, path))  # type: ignore[arg-type]
    assert not has_outside_buffers(path.read_bytes())
    assert made.micro is not None and made.micro.max_steps <= max(1, 2 * made.micro.litert_steps)
    assert made.document()["micro"]["arena"]["bytes"] > 0
    given = np.random.default_rng(9).integers(-128, 128, (5, 1, 64), np.int8)
    np.save(tmp_path / "x.npy", given)
    subprocess.run([python, "-c", BARE, path, tmp_path / "x.npy", tmp_path / "y.npy"], check=True)
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for x, found in zip(given, np.load(tmp_path / "y.npy"), strict=True):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        # a step before the tanh, whose slope makes of it what one step of the input's scale is in the output's
        assert np.abs(found.astype(int) - wanted).max() <= 4


def test_a_file_that_computes_something_else_there_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(WorkerClient):
        def run(self, feed: Feed, *, timeout_s: float | None = None) -> dict[str, Array]:
            return {name: array + np.int8(9) for name, array in super().run(feed, timeout_s=timeout_s).items()}

    monkeypatch.setattr(
        "edgekit.pipeline.quantize.micro.open_worker", lambda name: Off(transport_for(parse_device(name)))
    )
    with pytest.raises(ParityError, match=r"another output 'output' on TensorFlow.*Nothing was published"):
        edgekit.quantize(folder / "m.tflite", **asked(folder, tmp_path / "q.tflite"))  # type: ignore[arg-type]
    assert not (tmp_path / "q.tflite").exists()


def test_operators_that_are_not_there_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by the bare interpreter's words: here they are those of a file with an operator that it does not have."""
    real = WorkerClient.load

    def refused(self: WorkerClient, path: Path, **how: object) -> object:
        if "runtime" in how or not how.get("raw"):
            return real(self, path, **how)  # type: ignore[arg-type]
        raise UnsupportedError(f"{path}: tflm does not have GELU")

    monkeypatch.setattr(WorkerClient, "load", refused)
    with pytest.raises(QualityError, match=r"tflm does not have GELU.*Nothing was published"):
        edgekit.quantize(folder / "m.tflite", **asked(folder, tmp_path / "q.tflite"))  # type: ignore[arg-type]
    assert not (tmp_path / "q.tflite").exists()


def test_onnx_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"takes \.tflite; .*m\.onnx is \.onnx: export"):
        edgekit.quantize(folder / "m.onnx", **asked(folder, tmp_path / "q.onnx"))  # type: ignore[arg-type]


def test_without_tflite_micro_nothing_is_published(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TFLM.variable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(RuntimeMissingError, match=r"--for mcu runs the file.*pip install tflite-micro") as caught:
        edgekit.quantize(folder / "m.tflite", **asked(folder, tmp_path / "q.tflite"))  # type: ignore[arg-type]
    assert caught.value.exit_code == 4


def test_weights_behind_the_flatbuffer_are_refused(folder: Path, tmp_path: Path) -> None:
    """As Google's quantizer writes them: bare, the interpreter computes with what is in memory, and says nothing."""
    from ai_edge_quantizer import quantizer, recipe

    library = quantizer.Quantizer(without_prefix((folder / "m.tflite").read_bytes()), recipe.dynamic_wi8_afp32())
    path = tmp_path / "outside.tflite"
    path.write_bytes(library.quantize().quantized_model)
    assert has_outside_buffers(path.read_bytes())
    with pytest.raises(UnsupportedError, match="weights behind its flatbuffer, where tflm does not look"):
        edgekit.load(path, device="mcu")


def test_the_table_of_operators_is_that_of_the_interpreter(folder: Path) -> None:
    assert not micro.missing(edgekit.inspect(folder / "m.tflite").operators)
    assert open_artifact(folder / "m.tflite").card is not None


def test_reference_kernels_of_litert(folder: Path) -> None:
    feed = {"input": np.random.default_rng(2).standard_normal((1, 64)).astype(np.float32)}
    with (
        edgekit.load(folder / "m.tflite", runtime="litert:reference") as there,
        edgekit.load(folder / "m.tflite") as here,
    ):
        assert there.name == "litert:reference"
        found = there.delegation()
        assert found is not None and found.delegated == 0
        output = here.signature.outputs[0].name
        assert np.abs(there.run(feed)[output] - here.run(feed)[output]).max() < 1e-5  # float32 sums in another order


def test_a_table_of_integers_is_looked_up(tmp_path: Path) -> None:
    """It gives real rows, and multiplies nothing: on a microcontroller it runs, unlike products of real inputs."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(30, 16), nn.Linear(16, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.table(ids).mean(1)))  # type: ignore[no-any-return]

    torch.manual_seed(1)
    ids = np.random.default_rng(3).integers(0, 30, (60, 6))
    edgekit.export(Words().eval(), (torch.from_numpy(ids[:1]),), to=["tflite"], out=tmp_path, name="w")
    with edgekit.load(tmp_path / "w.tflite") as runner:
        (spec,) = runner.signature.inputs
    np.savez(tmp_path / "w.npz", **{spec.name: ids.astype(spec.dtype)})  # type: ignore[arg-type]
    made = edgekit.quantize(
        tmp_path / "w.tflite", scheme="int8", data=f"npz:{tmp_path / 'w.npz'}", for_="mcu", out=tmp_path / "q.tflite"
    )
    assert "EMBEDDING_LOOKUP" in edgekit.inspect(tmp_path / "q.tflite").operators
    assert made.micro is not None and made.account.left_float == ()
