"""Exported programs and modules in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.artifact import write_card
from edgekit.errors import DeviceError, FeedError, ModelError
from edgekit.runtime import load
from edgekit.runtime.torch import TorchModuleRunner
from edgekit.types import Card, Signature, Task, TensorSpec


class Two(torch.nn.Module):
    """(batch, 2) and (batch, 2) -> their sum and difference."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left + right, left - right


SIGNATURE = Signature(
    (TensorSpec("left", "float32", ("batch", 2)), TensorSpec("right", "float32", ("batch", 2))),
    (TensorSpec("sum", "float32", ("batch", 2)), TensorSpec("difference", "float32", ("batch", 2))),
)
FEED = {"right": np.full((3, 2), 1, np.float32), "left": np.full((3, 2), 5, np.float32)}


@pytest.mark.parametrize("keywords", [(), ("right",), ("left", "right"), ("right", "left")])
def test_a_program_by_its_names_however_it_was_exported(tmp_path: Path, keywords: tuple[str, ...]) -> None:
    examples = {"left": torch.ones(2, 2), "right": torch.ones(2, 2)}
    positional = tuple(v for k, v in examples.items() if k not in keywords)
    dynamic = {name: {0: torch.export.Dim("batch")} for name in examples}
    program = torch.export.export(Two(), positional, {k: examples[k] for k in keywords}, dynamic_shapes=dynamic)
    path = tmp_path / "m.pt2"
    torch.export.save(program, path)
    with load(path) as runner:
        assert runner.name == "torch"
        assert {spec.name for spec in runner.signature.inputs} == {"left", "right"}
        result = runner.run(FEED)
        assert [array[0, 0] for array in result.values()] == [6, 4]
    write_card(path, Card("two", "custom", Task(), SIGNATURE))
    with load(path) as runner:
        assert runner.signature == SIGNATURE
        result = runner.run(FEED)
        assert result["sum"].shape == (3, 2) and (result["sum"][0, 0], result["difference"][0, 0]) == (6, 4)
        with pytest.raises(FeedError, match="batch is 2 here and 3 in 'left'"):
            runner.run({**FEED, "right": FEED["right"][:2]})


def test_a_damaged_archive_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(1, 4),)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError):
        load(path)


def test_a_module_in_memory() -> None:
    runner = TorchModuleRunner(Two(), SIGNATURE)
    result = runner.run(FEED)
    assert (result["sum"][0, 0], result["difference"][0, 0]) == (6, 4)
    with pytest.raises(FeedError, match="'lefft'"):
        runner.run({"lefft": FEED["left"], "right": FEED["right"]})
    one = Signature(SIGNATURE.inputs, SIGNATURE.outputs[:1])
    with pytest.raises(DeviceError, match="gave 2 results, its signature has 1"):
        TorchModuleRunner(Two(), one).run(FEED)


def test_a_module_runs_in_eval_mode_and_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    runner = TorchModuleRunner(
        torch.nn.Dropout(0.9), Signature(SIGNATURE.inputs[:1], SIGNATURE.outputs[:1]), threads=before + 1
    )
    assert np.array_equal(runner.run({"left": FEED["left"]})["sum"], FEED["left"])
    assert torch.get_num_threads() == before


def test_results_are_arrays_of_their_own() -> None:
    runner = TorchModuleRunner(torch.nn.Identity(), Signature(SIGNATURE.inputs[:1], SIGNATURE.outputs[:1]))
    x = np.ones((1, 2), np.float32)
    result = runner.run({"left": x})["sum"]
    result[:] = 7
    assert x.tolist() == [[1, 1]]
    frozen = np.ones((1, 2), np.float32)
    frozen.flags.writeable = False
    assert runner.run({"left": frozen})["sum"].tolist() == [[1, 1]]
