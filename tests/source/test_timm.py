"""``timm:NAME``, with a real timm: contract and labels from its configuration, and random weights that are said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import edgekit
from edgekit.data.cache import NotHereError, without_downloads
from edgekit.data.pixels import encode
from edgekit.errors import DataError, RuntimeMissingError, SourceError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.runtime.torch import TorchModuleRunner
from edgekit.source import origin, resolve, weights
from edgekit.source.timm import image_contract
from edgekit.types import InputSpec, Step

pytestmark = pytest.mark.usefixtures("kept_workers")

SMALL = "test_resnet"
"""timm's own network for tests: 13 layers, 160 x 160."""


def test_without_weights_it_says_that_they_are_random(timm: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edgekit"):
        network = resolve(f"timm:{SMALL}")
    assert "its weights are RANDOM" in caplog.text
    assert (network.card.config["weights"], origin(network.card)) == ("random", "random")
    assert network.task.kind == "classification"
    assert network.task.labels == ()  # names would lend random answers a meaning
    again = resolve(f"timm:{SMALL}")
    assert again.card.source_sha256 == network.card.source_sha256


def test_nothing_is_downloaded_where_that_is_not_wanted(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights would be taken for the network's own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "_reachable", lambda url: True)
    with without_downloads(), pytest.raises(NotHereError, match=f"the weights of timm:{SMALL}"):
        resolve(f"timm:{SMALL}")


def test_the_export_says_it_too(timm: Any, tmp_path: Path) -> None:
    result = edgekit.export(f"timm:{SMALL}", to=["onnx", "tflite"], out=tmp_path)
    assert result.document()["weights"] == "random"
    for made in result.artifacts:
        assert any("the weights are random" in note for note in made.notes)
        assert made.artifact.card is not None
        assert any("the weights are random" in note for note in made.artifact.card.notes)
        assert made.parity.passed


def test_cached_weights_are_used_and_bring_the_labels(
    timm: Any, cached: Callable[[str, dict[str, bytes]], None]
) -> None:
    torch.manual_seed(1)
    made = timm.create_model(SMALL)
    state = {name: value.contiguous() for name, value in made.state_dict().items()}
    cached(made.pretrained_cfg["hf_hub_id"], {"model.safetensors": save(state)})
    network = resolve(f"timm:{SMALL}")
    assert origin(network.card) == "pretrained"
    assert len(network.task.labels) == 1000
    assert "tench" in network.task.labels[0]
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        wanted = made.eval()(x).numpy()
    got = TorchModuleRunner(network.module, network.signature).run({network.signature.inputs[0].name: x.numpy()})
    assert np.array_equal(next(iter(got.values())), wanted)


def test_random_weights_leave_no_branch_switched_off(timm: Any) -> None:
    module = resolve("timm:resnet18").module
    for block in (m for m in module.modules() if type(m).__name__ == "BasicBlock"):
        assert block.bn2.weight.min() > 0.4  # timm starts it at zero, and a converter would fold the block away
    assert not torch.equal(module.bn1.running_var, torch.ones(64))


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_images_are_prepared_as_timm_prepares_them(timm: Any, mode: str) -> None:
    """Against timm's own transform, exactly: both resize with Pillow, and the arithmetic is that of one float32."""
    about = {
        "input_size": (3, 96, 96), "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225), "crop_pct": 0.875, "crop_mode": mode,
    }  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (130, 201, 3), dtype=np.uint8)
    wanted = timm.data.create_transform(**about)(Image.fromarray(pixels)).numpy()
    got = encode([pixels], image_contract(about))[0]
    assert np.allclose(got, wanted, atol=1e-5)  # (x / 255 - m) / s in another order of operations


def test_an_interpolation_that_pillow_has_not_is_refused() -> None:
    rule = InputSpec("image", "NCHW", (8, 8), 3, params={"interpolation": "area"})
    with pytest.raises(DataError, match=r"resizes images by 'area'; known are: .*bicubic"):
        encode([np.zeros((9, 9, 3), np.uint8)], rule)


def test_a_checkpoint_of_it_comes_back_and_is_no_longer_random(timm: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    network = resolve(f"timm:{SMALL}")
    trained = replace(network, card=network.card.with_step(Step("finetune", {"epochs": 1})))
    save_checkpoint(trained, tmp_path / "mine.safetensors")
    again = resolve(tmp_path / "mine.safetensors")
    assert origin(again.card) == "trained"
    mine, its = network.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_an_unknown_name(timm: Any) -> None:
    with pytest.raises(SourceError, match="no model called 'resnet1'; similar names: resnet1"):
        resolve("timm:resnet1")


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgekit\[timm\]'"):
        resolve("timm:resnet18")


def test_weights_of_the_users_own_say_how_many_classes_there_are(
    timm: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A network that was trained elsewhere on three classes, as Lightning saves it; nothing is said to be random."""
    torch.manual_seed(3)
    mine = timm.create_model(SMALL, pretrained=False, num_classes=3).eval()
    torch.save({"state_dict": {f"model.{k}": v for k, v in mine.state_dict().items()}}, tmp_path / "mine.ckpt")
    with caplog.at_level(logging.INFO, "edgekit"):
        network = resolve(f"timm:{SMALL}", weights=tmp_path / "mine.ckpt")
    assert "RANDOM" not in caplog.text and origin(network.card) == "pretrained"
    assert network.signature.outputs[0].shape == (1, 3) and network.task.labels == ()
    x = torch.rand(1, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(network.module(x), mine(x))
    torch.save({k: v for k, v in mine.state_dict().items() if "conv1" not in k}, tmp_path / "half.pt")
    with pytest.raises(SourceError, match="do not fit the network"):
        resolve(f"timm:{SMALL}", weights=tmp_path / "half.pt")
