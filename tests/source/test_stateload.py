"""Weights of the user's own: names, prefixes, shapes, and pickles that hold more than tensors."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import edgekit
from edgekit.errors import ModelError, SourceError, UsageError
from edgekit.source import resolve
from edgekit.source.module import is_module, of_module
from edgekit.source.stateload import convert, read_state, with_weights
from edgekit.types import Network


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(OrderedDict(body=nn.Linear(4, 8), head=nn.Linear(8, 2)))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return {name: torch.randn_like(value) for name, value in net().state_dict().items()}


@pytest.fixture
def network() -> Network:
    return of_module(net(), torch.ones(1, 4))


def wrapped(state: dict[str, torch.Tensor], how: str) -> Any:
    if how == "lightning":
        return {"epoch": 3, "state_dict": {f"model.{name}": value for name, value in state.items()}, "lr": 0.1}
    if how == "parallel":
        return {f"module.{name}": value for name, value in state.items()}
    if how == "compiled":
        return {"model_state_dict": {f"_orig_mod.module.{name}": value for name, value in state.items()}}
    return state


@pytest.mark.parametrize("how", ["plain", "lightning", "parallel", "compiled"])
def test_state_dicts_of_training_scripts(
    network: Network, state: dict[str, torch.Tensor], how: str, tmp_path: Path
) -> None:
    torch.save(wrapped(state, how), tmp_path / "w.pt")
    assert convert(str(tmp_path / "w.pt"), str(tmp_path / "w.safetensors")) is None  # as the process does that reads it
    before = network.card.source_sha256
    loaded = with_weights(network, tmp_path / "w.safetensors")
    x = torch.randn(3, 4)
    wanted = (x @ state["body.weight"].T + state["body.bias"]) @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(loaded.module(x).detach(), wanted, rtol=1e-5, atol=1e-6)
    assert loaded.card.source_sha256 != before
    assert loaded.card.config["weights_file"] == "w.safetensors"


def test_safetensors_need_no_process(network: Network, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    loaded = with_weights(network, tmp_path / "w.safetensors").module.state_dict()
    assert torch.equal(loaded["head.bias"], state["head.bias"])


def test_names_that_differ_are_listed_both_ways(
    network: Network, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state["tail.weight"] = state.pop("head.weight")
    state["body.bias"] = torch.zeros(9)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(SourceError) as caught:
        with_weights(network, tmp_path / "w.safetensors")
    text = str(caught.value)
    assert "1 of the network's 4 tensors are not in it: head.weight" in text
    assert "1 of its 4 tensors are not in the network: tail.weight" in text
    assert "body.bias is 9, the network has 8" in text


def test_what_a_lightning_module_holds_besides_is_left_out_and_said(
    network: Network, state: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = wrapped(state, "lightning")["state_dict"] | {"criterion.weight": torch.ones(2)}
    save_file(whole, tmp_path / "w.safetensors")
    loaded = with_weights(network, tmp_path / "w.safetensors").module.state_dict()
    assert torch.equal(loaded["head.weight"], state["head.weight"])
    assert "not of the network: criterion.weight" in caplog.text


def test_counters_of_batch_norms_may_be_lacking(tmp_path: Path) -> None:
    network = of_module(nn.Sequential(nn.BatchNorm1d(3)), torch.zeros(1, 3))
    save_file({f"0.{n}": torch.full((3,), 2.0) for n in ("weight", "bias", "running_mean", "running_var")},
              tmp_path / "w.safetensors")  # fmt: skip
    assert with_weights(network, tmp_path / "w.safetensors").module.state_dict()["0.running_var"].tolist() == [2.0] * 3


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("what", ["module", "code"])
def test_a_pickle_that_would_run_code_does_not(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(net() if what == "module" else {"a": torch.zeros(1), "b": Evil()}, tmp_path / "w.pt")
    said = convert(str(tmp_path / "w.pt"), str(tmp_path / "w.safetensors"))
    assert said is not None and "opening that would run code" in said
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nothing", "torch.save did not write it"),
        (b"", "torch.save did not write it, or it is cut short"),
        ({"epoch": 1, "losses": [0.5]}, "no state dict in it (a dict of names and tensors); it holds: epoch, losses"),
        ([1, 2], "no state dict in it (a dict of names and tensors); it holds: list"),
    ],
)
def test_pickles_without_weights(content: Any, words: str, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / "w.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "w.pt")
    said = convert(str(tmp_path / "w.pt"), str(tmp_path / "w.safetensors"))
    assert said is not None and words in said


def test_a_process_of_its_own_reads_it(network: Network, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(wrapped(state, "lightning"), tmp_path / "w.ckpt")
    assert torch.equal(read_state(tmp_path / "w.ckpt")["model.head.bias"], state["head.bias"])
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.ckpt").read_bytes()[:400])
    with pytest.raises(ModelError, match=r"cut\.pt cannot be read as weights: \w+"):
        read_state(tmp_path / "cut.pt")


@pytest.mark.parametrize(("name", "words"), [("w.h5", r"takes \.pt, \.pth, \.ckpt"), ("w.safetensors", "is empty")])
def test_files_that_hold_no_weights(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=words):
        read_state(tmp_path / name)


def test_a_factory_and_its_weights(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from collections import OrderedDict\nimport torch\nfrom torch import nn\n\n\ndef build():\n"
        "    layers = OrderedDict(body=nn.Linear(4, 8), head=nn.Linear(8, 2))\n"
        "    return nn.Sequential(layers), torch.zeros(1, 4), {'labels': ['no', 'yes']}\n"
    )
    save_file(state, tmp_path / "w.safetensors")
    network = resolve(f"{tmp_path / 'net.py'}:build", weights=tmp_path / "w.safetensors")
    assert torch.equal(network.module.state_dict()["body.weight"], state["body.weight"])
    assert network.task.labels == ("no", "yes")


def test_a_module_from_python_stays_as_its_caller_has_it(tmp_path: Path) -> None:
    """In training mode, a part frozen in eval mode, with its parameters and their gradients."""
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)).train()
    module[1].eval()
    module[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    made = edgekit.export(module, torch.ones(1, 4), to=["onnx"], out=tmp_path)
    assert [part.training for part in module] == [True, False, True, True] and module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True, True, True]
    session = onnxruntime.InferenceSession(made.artifacts[0].artifact.path)
    x = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found, module.eval()(torch.from_numpy(x)).detach(), atol=1e-6)
    with pytest.raises(UsageError, match="load the state dict into your module"):
        edgekit.export(module, torch.ones(1, 4), to=["onnx"], out=tmp_path, weights="w.pt")


def test_what_is_a_module() -> None:
    assert is_module(net())
    assert not any(is_module(other) for other in ("net.py:build", Path("net.py"), None, nn.Linear))
