"""Networks of pixels, as their papers describe them and small: U-Net, an SRGAN-like upsampler, a VAE's decoder.

Each factory returns the module and its example input; its weights are random (edgekit seeds torch with 0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _twice(width: int, out: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for given in (width, out):
        layers += [nn.Conv2d(given, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Contracting and expanding path with skips (Ronneberger et al., 2015), padded: the mask has the image's size."""

    def __init__(self, width: int = 8, depth: int = 3, classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(depth + 1)]
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_twice(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes, H, W); H and W are multiples of 2 ** depth."""
        skips: list[Tensor] = []
        x = image
        for k, block in enumerate(self.down):
            x = block(x if k == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


class Residual(nn.Module):
    """Convolution, batch norm and PReLU, twice, around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.act = nn.PReLU(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


class Upsampler(nn.Module):
    """SRGAN's generator (Ledig et al., 2017): residual blocks, then twice a pixel shuffle; 4x in each direction."""

    def __init__(self, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.norm = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        stage = [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.up = nn.Sequential(*stage, nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.head = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, 4H, 4W)"""
        x = self.stem(image)
        return torch.tanh(self.head(self.up(x + self.norm(self.body(x)))))


class Decoder(nn.Module):
    """The decoder of a convolutional VAE (Kingma & Welling, 2014): a latent vector to an image's mean."""

    def __init__(self, latent: int = 16, width: int = 8, size: int = 32) -> None:
        super().__init__()
        self.side = size // 8
        self.project = nn.Linear(latent, 4 * width * self.side**2)
        layers: list[nn.Module] = []
        for given, out in ((4 * width, 2 * width), (2 * width, width)):
            layers += [nn.ConvTranspose2d(given, out, 4, 2, 1), nn.GroupNorm(4, out), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """(B, latent) -> (B, 3, size, size)"""
        x = functional.silu(self.project(latent)).unflatten(1, (-1, self.side, self.side))
        return torch.sigmoid(self.body(x))


def unet() -> tuple[nn.Module, Tensor]:
    return UNet(), torch.randn(1, 3, 32, 48)


def srgan() -> tuple[nn.Module, Tensor]:
    return Upsampler(), torch.randn(1, 3, 12, 16)


def vae_decoder() -> tuple[nn.Module, Tensor]:
    return Decoder(), torch.randn(1, 16)
