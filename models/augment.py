"""Augmentation of batches, vectorised: a crop and flip of each uint8 image, a delay of each sound, words left out."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.data.text import PADDING, UNKNOWN

KINDS = ("", "shift", "crop-flip", "words")


def padded(images: Tensor, pad: int) -> Tensor:
    """(N, H, W, C) -> (N, H + 2 pad, W + 2 pad, C), edges reflected. Done once, before training."""
    if pad == 0:
        return images
    rows = _reflect(images.shape[1], pad)
    columns = _reflect(images.shape[2], pad)
    return images[:, rows][:, :, columns].contiguous()


def _reflect(size: int, pad: int) -> Tensor:
    places = torch.arange(-pad, size + pad).abs()
    return torch.where(places > size - 1, 2 * (size - 1) - places, places).clamp(0, size - 1)


def padding_for(kind: str, height: int) -> int:
    """Pixels a crop may move: an eighth of the height (4 of 32), 1 of 8; 0 without augmentation."""
    return max(1, height // 8) if kind else 0


def crop_and_flip(images: Tensor, size: tuple[int, int], flip: bool, generator: torch.Generator) -> Tensor:
    """A random crop of ``size`` from each padded image (B, H', W', C), mirrored in half of the cases if ``flip``."""
    count, high, wide, _ = images.shape
    height, width = size
    top = torch.randint(0, high - height + 1, (count, 1), generator=generator)
    left = torch.randint(0, wide - width + 1, (count, 1), generator=generator)
    rows = top + torch.arange(height)  # (B, H)
    columns = left + torch.arange(width)  # (B, W)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    return images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def words_dropped(text: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Token numbers (B, L) with about ``share`` of the words made unknown (word dropout; Iyyer et al. 2015)."""
    hidden = torch.rand(text.shape, generator=generator) < share
    return torch.where(hidden & (text != PADDING), torch.full_like(text, UNKNOWN), text)


def shifted(frames: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Sequences (B, T, F) moved to the front by 0 to ``most`` steps each; what follows is their own first step.

    A sound that ends its window, with silence before it, then ends earlier, with silence after it.
    """
    count, length, width = frames.shape
    places = torch.arange(length) + torch.randint(0, most + 1, (count, 1), generator=generator)  # (B, T)
    places = torch.where(places < length, places, 0)
    return frames.gather(1, places[:, :, None].expand(count, length, width))
