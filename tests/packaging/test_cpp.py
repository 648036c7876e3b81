"""``--for cpp``: the program is compiled, and its self-test passes.

With ``$EDGEKIT_ONNXRUNTIME_SDK`` or ``$EDGEKIT_TFLITE_SDK`` (a folder with include/ and lib/) on the real runtime, by
CMake; always on a stand-in for TFLite's C API that computes Relu, which is what the files compute: the header, the
preprocessing and the self-test are the real ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import edgekit
from edgekit.errors import UnsupportedError
from edgekit.packaging import unicode

pytestmark = [
    pytest.mark.usefixtures("kept_workers"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]
STAND_IN = """\
#pragma once
#include <cstring>
#include <vector>
typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
struct TfLiteTensor { std::vector<float> values; };
struct TfLiteModel {};
struct TfLiteInterpreterOptions {};
struct TfLiteInterpreter { TfLiteTensor in, out; };
inline TfLiteModel *TfLiteModelCreateFromFile(const char *) { return new TfLiteModel; }
inline void TfLiteModelDelete(TfLiteModel *model) { delete model; }
inline TfLiteInterpreterOptions *TfLiteInterpreterOptionsCreate() { return new TfLiteInterpreterOptions; }
inline void TfLiteInterpreterOptionsDelete(TfLiteInterpreterOptions *options) { delete options; }
inline void TfLiteInterpreterOptionsSetNumThreads(TfLiteInterpreterOptions *, int) {}
inline TfLiteInterpreter *TfLiteInterpreterCreate(const TfLiteModel *, const TfLiteInterpreterOptions *) {
  return new TfLiteInterpreter;
}
inline void TfLiteInterpreterDelete(TfLiteInterpreter *interpreter) { delete interpreter; }
inline TfLiteStatus TfLiteInterpreterAllocateTensors(TfLiteInterpreter *i) { i->out = i->in; return kTfLiteOk; }
inline TfLiteStatus TfLiteInterpreterResetVariableTensors(TfLiteInterpreter *) { return kTfLiteOk; }
inline TfLiteTensor *TfLiteInterpreterGetInputTensor(const TfLiteInterpreter *i, int) {
  return const_cast<TfLiteTensor *>(&i->in);
}
inline const TfLiteTensor *TfLiteInterpreterGetOutputTensor(const TfLiteInterpreter *i, int) { return &i->out; }
inline size_t TfLiteTensorByteSize(const TfLiteTensor *tensor) { return 4 * tensor->values.size(); }
inline TfLiteStatus TfLiteInterpreterResizeInputTensor(TfLiteInterpreter *i, int, const int *sizes, int rank) {
  size_t count = 1;
  for (int k = 0; k < rank; k++) count *= sizes[k];
  i->in.values.resize(count);
  return kTfLiteOk;
}
inline TfLiteStatus TfLiteTensorCopyFromBuffer(TfLiteTensor *tensor, const void *data, size_t bytes) {
  if (bytes != TfLiteTensorByteSize(tensor)) return kTfLiteError;
  std::memcpy(tensor->values.data(), data, bytes);
  return kTfLiteOk;
}
inline TfLiteStatus TfLiteTensorCopyToBuffer(const TfLiteTensor *tensor, void *data, size_t bytes) {
  if (bytes != TfLiteTensorByteSize(tensor)) return kTfLiteError;
  std::memcpy(data, tensor->values.data(), bytes);
  return kTfLiteOk;
}
inline TfLiteStatus TfLiteInterpreterInvoke(TfLiteInterpreter *i) {
  for (size_t k = 0; k < i->in.values.size(); k++) i->out.values[k] = i->in.values[k] > 0 ? i->in.values[k] : 0;
  return kTfLiteOk;
}
"""


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[Path], Path]:
    """The program of a package folder, compiled against the stand-in; warnings are errors."""
    for name in ("c_api.h", "c_api_experimental.h"):
        place = tmp_path / "include" / "tensorflow" / "lite" / "c" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(STAND_IN)

    def build(folder: Path) -> Path:
        target = folder.with_suffix(".exe")
        command = [
            "g++",
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-function",
            f"-I{tmp_path / 'include'}",
        ]
        done = subprocess.run([*command, str(folder / "main.cpp"), "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return target

    return build


@pytest.mark.parametrize("kind", ["colour", "cubic", "letterbox", "audio", "running"])
def test_preprocessing_is_edgekits(
    kind: str, make: Callable[..., Path], compiled: Callable[[Path], Path], tmp_path: Path
) -> None:
    edgekit.package(make(kind, "tflite"), for_="cpp", out=tmp_path / "app")
    done = subprocess.run(
        [compiled(tmp_path / "app"), "--in", tmp_path / "app", "selftest"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == 2


def test_one_answer(make: Callable[..., Path], compiled: Callable[[Path], Path], tmp_path: Path) -> None:
    model = make("table", "tflite", "classification", ('an "ant"', "bee\\?", "cat", "dög"))
    edgekit.package(model, for_="cpp", out=tmp_path / "app")
    (tmp_path / "in.csv").write_text("1,2,3.5,4\n", encoding="utf-8")
    (answer,) = edgekit.run(model, tmp_path / "in.csv", top=4).answers
    done = subprocess.run(
        [compiled(tmp_path / "app"), "--in", tmp_path / "app", tmp_path / "in.csv"], capture_output=True, timeout=60
    )
    lines = done.stdout.decode().splitlines()
    assert lines == [f"{one.label} {one.probability:.4f}" for one in answer.top]


@pytest.mark.parametrize(
    ("suffix", "variable"), [("onnx", "EDGEKIT_ONNXRUNTIME_SDK"), ("tflite", "EDGEKIT_TFLITE_SDK")]
)
def test_on_the_real_runtime(suffix: str, variable: str, make: Callable[..., Path], tmp_path: Path) -> None:
    sdk = os.environ.get(variable)
    if not sdk or shutil.which("cmake") is None:
        pytest.skip(f"needs cmake and ${variable}, a folder with include/ and lib/ of the runtime")
    edgekit.package(make("colour", suffix), for_="cpp", out=tmp_path / "app")
    option = f"-D{variable.removeprefix('EDGEKIT_').removesuffix('_SDK')}={sdk}"
    for command in (
        ["cmake", "-S", tmp_path / "app", "-B", tmp_path / "b", option],
        ["cmake", "--build", tmp_path / "b"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["ctest", "--test-dir", tmp_path / "b"], capture_output=True, text=True)
    assert "100% tests passed" in done.stdout


def test_text_is_in_the_header(make: Callable[..., Path], tmp_path: Path) -> None:
    edgekit.package(make("text", "onnx"), for_="cpp", out=tmp_path / "app")
    header = (tmp_path / "app" / "model.h").read_text()
    assert f"Unicode {unicode.VERSION}" in header
    assert "\\303\\274ber" in header, "the vocabulary is UTF-8"


def test_runs_of_unicode_are_pythons() -> None:
    inside = {c for first, last in unicode.letters() for c in range(first, last + 1)}
    assert all((code in inside) == chr(code).isalpha() for code in range(0x3000))
    shifts = {c: shift for first, last, step, shift in unicode.capitals() for c in range(first, last + 1, step)}
    for code in range(0x3000):
        small = chr(code).lower()
        assert code + shifts.get(code, 0) == (ord(small) if len(small) == 1 else code)


def test_a_type_that_it_does_not_pass(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgekit.packaging.cpp.TYPES", {"int8": "int8"})
    with pytest.raises(UnsupportedError, match="'x' holds float32"):
        edgekit.package(make("table", "tflite"), for_="cpp", out=tmp_path / "app")
    assert not (tmp_path / "app").exists()
