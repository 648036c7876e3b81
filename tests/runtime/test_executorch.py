"""``.pte`` files on ExecuTorch, beside the bare bindings: values, names, threads, shapes, and what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.artifact import write_card
from edgekit.devices import open_runner
from edgekit.environments import EXECUTORCH
from edgekit.errors import DeviceError, FeedError, ModelError, RuntimeMissingError, UsageError
from edgekit.pipeline.doctor import TINY_PTE
from edgekit.types import Card, Signature, Task, TensorSpec

MAKE = """
import sys, torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass

class Several(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 4)
    def forward(self, image, count, flags):
        pooled = torch.relu(self.conv(image)).mean((2, 3), keepdim=True).flatten(1)
        return torch.cumsum(self.linear(pooled), 1), count + 1, pooled.sum(), ~flags, image[:, :, :0, 0] * 2

torch.manual_seed(0)
module, examples = Several().eval(), (torch.randn(2, 3, 16, 16), torch.tensor(3), torch.tensor([True, False, True]))
batch = torch.export.Dim("batch", min=1, max=6)
config = ExecutorchBackendConfig(sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass())
for name, shapes in (("fixed", None), ("free", ({0: batch}, None, None))):
    program = torch.export.export(module, examples, dynamic_shapes=shapes)
    made = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch(config)
    open(f"{sys.argv[1]}/{name}.pte", "wb").write(made.buffer)
class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
    def forward(self, x):
        self.count.add_(1.0)
        return x + self.count

program = torch.export.export(Counter(), (torch.zeros(1, 4),))
open(f"{sys.argv[1]}/counter.pte", "wb").write(to_edge_transform_and_lower(program).to_executorch().buffer)
torch.save({"state": module.state_dict()}, f"{sys.argv[1]}/weights.pt")
"""


@pytest.fixture(scope="session")
def programs(once: Callable[[str, Callable[[Path], object]], Path], executorch_python: str) -> Path:
    """``fixed.pte`` and ``free.pte`` of one network, made by ExecuTorch alone."""

    def make(folder: Path) -> None:
        subprocess.run([executorch_python, "-c", MAKE, str(folder)], check=True, capture_output=True, timeout=300)

    return once("executorch_programs", make)


def feed(batch: int = 2, seed: int = 0) -> dict[str, Any]:
    image = np.random.default_rng(seed).standard_normal((batch, 3, 16, 16)).astype(np.float32)
    return {"input_0": image, "input_1": np.array(5), "input_2": np.array([True, False, True])}


def wanted(programs: Path, given: dict[str, Any]) -> list[Any]:
    import torch

    state = torch.load(programs / "weights.pt", weights_only=True)["state"]
    map_ = torch.nn.functional.conv2d(torch.from_numpy(given["input_0"]), state["conv.weight"], state["conv.bias"])
    pooled = torch.relu(map_).mean((2, 3))
    scores = torch.cumsum(torch.nn.functional.linear(pooled, state["linear.weight"], state["linear.bias"]), 1)
    return [scores.numpy(), given["input_1"] + 1, pooled.sum().numpy(), ~given["input_2"], None]


def check(programs: Path, runner: Any, given: dict[str, Any]) -> None:
    results = list(runner.run(given).values())
    for found, value in zip(results, wanted(programs, given), strict=True):
        if value is None:
            assert found.shape == (len(given["input_0"]), 3, 0)
        else:
            assert found.dtype == value.dtype and found.shape == value.shape
            np.testing.assert_allclose(found, value, atol=1e-4)  # float32 sums in another order


def test_values_types_and_shapes(programs: Path) -> None:
    with edgekit.load(programs / "fixed.pte") as runner:
        assert (runner.name, runner.version) == ("executorch", "1.5.1")
        assert [spec.shape for spec in runner.signature.inputs] == [(2, 3, 16, 16), (), (3,)]
        assert [spec.dtype for spec in runner.signature.outputs] == ["float32", "int64", "float32", "bool", "float32"]
        for seed in range(3):
            check(programs, runner, feed(seed=seed))
        first = runner.run(feed())["output_0"]
        kept = first.copy()
        runner.run(feed(seed=9))
        assert np.array_equal(first, kept), "results are arrays of their own"
        with pytest.raises(FeedError, match="axis 3 is 17 for 16"):
            runner.run({**feed(), "input_0": np.zeros((2, 3, 16, 17), np.float32)})
        told = runner.delegation()
        assert told is not None and told.by == "XNNPACK" and 0 < told.delegated < told.nodes
        assert "aten::cumsum.out" in {operator.type for operator in told.left}


def test_free_axes_up_to_what_memory_was_planned_for(programs: Path) -> None:
    with edgekit.load(programs / "free.pte") as runner:
        for batch in (1, 6, 3):
            check(programs, runner, feed(batch))
        with pytest.raises(DeviceError, match=r"memory was planned for sizes up to input_0 \[6, 3, 16, 16\]"):
            runner.run(feed(7))
        check(programs, runner, feed(2))


def test_buffers_start_anew_unless_they_are_to_be_kept(programs: Path) -> None:
    x = {"input_0": np.zeros((1, 4), np.float32)}
    with edgekit.load(programs / "counter.pte") as runner:
        assert [float(runner.run(x)["output_0"][0, 0]) for _ in range(3)] == [1, 1, 1]
    with edgekit.load(programs / "counter.pte", stateful=True) as runner:
        assert [float(runner.run(x)["output_0"][0, 0]) for _ in range(3)] == [1, 2, 3]
        runner.reset()
        assert float(runner.run(x)["output_0"][0, 0]) == 1


def test_names_and_order_are_those_of_the_card(programs: Path, tmp_path: Path) -> None:
    inputs = (
        TensorSpec("image", "float32", ("batch", 3, 16, 16)), TensorSpec("count", "int64", ()),
        TensorSpec("flags", "bool", (3,)),
    )  # fmt: skip
    outputs = (
        TensorSpec("scores", "float32", ("batch", 4)), TensorSpec("next", "int64", ()),
        TensorSpec("sum", "float32", ()),
        TensorSpec("not", "bool", (3,)), TensorSpec("none", "float32", ("batch", 3, 0)),
    )  # fmt: skip
    path = tmp_path / "named.pte"
    write_card(programs / "free.pte", Card("n", "custom", Task(), Signature(inputs, outputs)), path)
    with open_runner(path) as runner:
        assert runner.signature == Signature(inputs, outputs)
        given = dict(zip(("flags", "image", "count"), (feed(3)[f"input_{k}"] for k in (2, 0, 1)), strict=True))
        assert list(runner.run(given)) == ["scores", "next", "sum", "not", "none"]
    wrong = Card("n", "custom", Task(), Signature(inputs[:2], outputs))
    write_card(programs / "free.pte", wrong, path)
    with pytest.raises(ModelError, match="lists 2 inputs, the file has 3"):
        open_runner(path)


IN_ONE_PROCESS = """
import sys
import numpy as np
from edgekit.errors import UsageError
from edgekit.runtime import load
from executorch.extension.pybindings import _C
x = {"input_0": np.array([[-1, 2, -3, 4]], np.float32)}
first, second = load(sys.argv[1], threads=2), load(sys.argv[1], threads=2)
assert _C._threadpool_get_thread_count() == 2
assert first.run(x)["output_0"].tolist() == second.run(x)["output_0"].tolist() == [[0, 2, 0, 4]]
try:
    load(sys.argv[1], threads=1)
except UsageError as error:
    print(error)
first.close()
second.run(x)
second.close()
third = load(sys.argv[1], threads=1)
assert _C._threadpool_get_thread_count() == 1
third.run(x)
"""


def test_threads_belong_to_the_process(executorch_python: str, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "relu.pte"
    path.write_bytes(TINY_PTE)
    command = [executorch_python, "-c", IN_ONE_PROCESS, str(path)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "relu.pte is open here with 2" in ended.stdout and "isolated=True" in ended.stdout


def test_without_segments_and_with_a_card(executorch_python: str, tmp_path: Path) -> None:
    """The header that the card brings is one that ExecuTorch reads."""
    path = tmp_path / "portable.pte"
    path.write_bytes(TINY_PTE)
    spec = (TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),)
    write_card(path, Card("n", "custom", Task(), Signature(*spec)))
    with edgekit.load(path) as runner:
        assert runner.run({"x": np.array([[-1, 2, -3, 4]], np.float32)})["y"].tolist() == [[0, 2, 0, 4]]


def test_refused_with_what_executorch_says(executorch_python: str, tmp_path: Path) -> None:
    path = tmp_path / "relu.pte"
    path.write_bytes(TINY_PTE.replace(b"XnnpackBackend", b"NotThereBacken"))
    with pytest.raises(ModelError, match=r"backend NotThereBacken is not part of the package executorch 1\.5\.1"):
        edgekit.load(path)


def test_missing_it_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "relu.pte"
    path.write_bytes(TINY_PTE)
    monkeypatch.delenv(EXECUTORCH.variable, raising=False)
    monkeypatch.setattr("sys.prefix", str(tmp_path / ".venv"))
    with pytest.raises(RuntimeMissingError, match=r"-m venv .*executorch==1\.5\.1"):
        edgekit.load(path)
    with pytest.raises(UsageError, match=r"runs \.onnx files"):
        edgekit.load(path, runtime="onnxruntime")
