"""Ways to run a ``.pt2``: eager, compiled, in fewer bits, on the CPU for real; what needs a GPU refused or marked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.errors import FeedError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.runtime import load, placed
from edgekit.runtime.precision import allowance, precision_of
from edgekit.runtime.torch_ways import VARIANTS, lowered

CPU_VARIANTS = [variant for variant in VARIANTS if "cudagraph" not in variant and "tf32" not in variant]
FEED = {
    "x": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "rows": np.array([0, 2, 1], np.int64),
}


class Net(torch.nn.Module):
    """Weights, a buffer, an integer input, a constant made in float32 and a cast: everything that has a dtype."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(4, 5, generator=generator))
        self.register_buffer("table", torch.randn(3, 5, generator=generator))

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x @ self.weight + self.table[rows] + torch.ones(5, dtype=torch.float32)
        return torch.tanh(y), rows.to(torch.float32).sum() + 1


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ways") / "net.pt2"
    torch.export.save(torch.export.export(Net(), (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))), path)
    return path


@pytest.fixture(scope="module")
def expected(program: Path) -> dict[str, np.ndarray]:
    with load(program, runtime="torch") as runner:
        return runner.run(FEED)


def _needs_compiler(variant: str) -> None:
    if variant.startswith("compile") and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler: apt-get install g++")


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=pytest.mark.slow if v.startswith("compile:") else ()) for v in CPU_VARIANTS]
)
def test_every_way_computes_the_same(program: Path, expected: dict[str, np.ndarray], variant: str) -> None:
    _needs_compiler(variant)
    precision = precision_of(f"torch:{variant}")
    with load(program, runtime=f"torch:{variant}") as runner:
        assert runner.name == f"torch:{variant}"
        assert [spec.dtype for spec in runner.signature.inputs] == ["float32", "int64"]  # the file's own, in any bits
        for _ in range(2):
            for name, array in runner.run(FEED).items():
                assert array.dtype == np.float32
                # float32: products in another order, 4 of them of values near 1; fewer bits: what precision.py allows
                limit = allowance(precision) * np.abs(expected[name]).max() if precision != "float32" else 1e-6
                assert np.abs(array - expected[name]).max() <= limit
        off = max(np.abs(runner.run(FEED)[name] - expected[name]).max() for name in expected)
        assert (off > 1e-6) == (precision != "float32")  # the bits are fewer: rounding shows
        copy_in, run, copy_out = runner.staged(FEED)
        copy_in()
        run()
        given, again = copy_out(), runner.run(FEED)
        assert all(np.array_equal(given[name], again[name]) for name in given)
        with pytest.raises(FeedError):
            runner.run({**FEED, "x": FEED["x"][:2]})


def test_everything_of_float32_is_lowered_and_nothing_else() -> None:
    made = torch.export.export(Net(), (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)))
    module = lowered(made.module(check_guards=False), "fp16")  # type: ignore[arg-type]
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float16}
    seen: list[torch.dtype] = []

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and isinstance(result, torch.Tensor):
                seen.append(result.dtype)
            return result

    given = torch.from_numpy(FEED["x"]), torch.from_numpy(FEED["rows"])
    results = Watch(module).run(*given)
    assert [tensor.dtype for tensor in results] == [torch.float32, torch.float32]
    assert seen.count(torch.float32) == 2 and torch.float16 in seen  # only the casts of the two outputs


def test_a_free_axis_is_laid_out_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    dynamic = {"input": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(2, 3),), dynamic_shapes=dynamic), path)
    with load(path, runtime="torch:eager") as runner:
        for batch in (1, 5, 2):
            x = np.random.default_rng(batch).normal(size=(batch, 3)).astype(np.float32)
            assert np.array_equal(runner.run({"input": x})["output_0"], np.maximum(x, 0))


def test_an_array_that_was_given_back_stays(program: Path) -> None:
    """Outputs lie in buffers that the next run overwrites: what is handed out is a copy."""
    with load(program, runtime="torch:eager") as runner:
        first = runner.run(FEED)
        kept = {name: array.copy() for name, array in first.items()}
        runner.run({**FEED, "x": FEED["x"] + 1})
        assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_what_only_a_gpu_has(program: Path) -> None:
    with pytest.raises(UsageError, match="needs --on cuda; on a CPU there is torch:compile"):
        load(program, runtime="torch:cudagraph")
    with pytest.raises(UsageError, match="needs --on cuda; on a CPU there are fp16 and bf16"):
        load(program, runtime="torch:eager:tf32")
    with pytest.raises(UsageError, match="there are: torch, torch:eager, torch:compile"):
        load(program, runtime="torch:jit")
    with load(program, runtime="torch:eager") as runner, pytest.raises(UnsupportedError, match="not in a file"):
        runner.save_compiled("x")


def test_what_a_runtime_is_on_a_gpu() -> None:
    assert placed("torch", "cpu") == "torch" and placed("litert", "cpu") == "litert"
    assert placed("torch", "cuda:0") == "torch:eager" and placed("torch:compile:bf16", "cuda:0") == "torch:compile:bf16"
    assert placed("onnxruntime", "cuda:1") == "onnxruntime:cuda"
    with pytest.raises(UsageError, match="litert does not run on cuda:0; there are torch"):
        placed("litert", "cuda:0")
    with pytest.raises(UsageError, match="onnxruntime:openvino does not run on cuda:0; there are: onnxruntime:cuda"):
        placed("onnxruntime:openvino", "cuda:0")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_a_torch_without_cuda_is_named(program: Path, files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissingError, match=r"torch .* is built without CUDA; run: pip install"):
        load(program, device="cuda:0")
    with pytest.raises(RuntimeMissingError, match=r"CUDAExecutionProvider.*onnxruntime-gpu"):
        load(files.dense_onnx(tmp_path / "m.onnx"), device="cuda:0")


@pytest.mark.slow
def test_a_missing_compiler_is_named(program: Path, tmp_path: Path, edgekit_cli: Callable[..., Any]) -> None:
    env = {"CXX": str(tmp_path / "no-g++"), "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ended = edgekit_cli("bench", program, "--runtime", "torch:compile", "--seconds", "0.1", env=env)
    assert ended.code == 4 and "needs a C++ compiler" in ended.err and "apt-get install g++" in ended.err


def test_precisions() -> None:
    assert precision_of("torch:compile:fp16") == "fp16" and precision_of("torch:eager") == "float32"
    assert precision_of("onnxruntime:tensorrt") == "tf32" and precision_of(None) == "float32"
    assert allowance("float32") == 0
    assert allowance("fp16") == 16 * float(np.finfo(np.float16).eps) / 2
    assert allowance("bf16") == 16 * torch.finfo(torch.bfloat16).eps / 2


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_on_a_gpu(program: Path, expected: dict[str, np.ndarray], variant: str) -> None:
    precision = precision_of(f"torch:{variant}")
    with load(program, runtime=f"torch:{variant}", device="cuda:0") as runner:
        assert runner.resident and runner.chip and "driver for CUDA" in runner.chip
        for name, array in runner.run(FEED).items():
            limit = allowance(precision) * np.abs(expected[name]).max() if precision != "float32" else 1e-5
            assert np.abs(array - expected[name]).max() <= limit
        call = runner.bare(FEED)
        call()
        times = runner.device_ns(5)
        assert len(times) == 5 and min(times) > 0
        assert runner.transfer_bytes() == (FEED["x"].nbytes + FEED["rows"].nbytes, 3 * 5 * 4 + 4)
        assert (runner.arena_bytes() or 0) > 0
        other = {**FEED, "x": FEED["x"] * 2}
        with load(program) as here:
            for name, array in here.run(other).items():  # a replay reads the buffers anew
                limit = allowance(precision) * np.abs(array).max() if precision != "float32" else 1e-5
                assert np.abs(runner.run(other)[name] - array).max() <= limit
