"""``transformer``: a small encoder for text and for image patches (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

Written out of plain matrix products, softmax and layer normalisation, so that every runtime has its operators and every
quantizer sees its tensors. Padding is masked inside, from the token numbers alone: the network has one input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.data.text import PADDING, vocabulary_size
from edgekit.errors import DataError
from edgekit.models.family import Family, Fitted, Hyperparameters, classifier, measure_contract, size_of

MASKED = -20.0
"""Added to the attention score of a padded place: its weight falls by e^-20 = 2e-9, below float32's resolution. A
larger magnitude would hide no more, and would take up the whole range of an 8-bit score."""
QUIET_STD = 0.01
"""Spread of the weights with which a block of a text network begins to add: at first the blocks say next to nothing,
and the network is a mean of its embeddings, which is what few texts teach; what order adds comes on top."""
PATCHES = 8
"""Patches along the longer side of an image."""


def positions(length: int, width: int) -> Tensor:
    """Sinusoidal positions (length, width), Vaswani et al. 2017, section 3.5."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates  # (length, ceil(width / 2))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


class Positions(nn.Module):
    """Adds one vector a place: learned (from random ones of the spread ``std``), or the fixed sines."""

    def __init__(self, length: int, width: int, learned: bool, std: float) -> None:
        super().__init__()
        if learned:
            self.table = nn.Parameter(torch.randn(length, width) * std)
        else:
            self.register_buffer("table", positions(length, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W), L up to the length it was built with."""
        return x + self.table[: x.shape[1]]


class TextStem(nn.Module):
    """Token numbers to vectors; number 0 is padding.

    In training whole features of a text are dropped, not single values, so that words cannot fill in for each other.
    """

    def __init__(self, words: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=0.3)
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0.0
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) integers -> vectors (B, L, W), and 1.0 for a word and 0.0 for padding (B, L)."""
        vectors = self.embedding(text)
        if self.training:
            vectors = vectors * self.dropout(torch.ones_like(vectors[:, :1]))
        return vectors, (text != PADDING).float()


class PatchStem(nn.Module):
    """An image cut into square patches, each mapped to a vector (Dosovitskiy et al. 2021)."""

    def __init__(self, channels: int, patch: int, width: int, dropout: float) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        """(B, C, H, W) -> vectors (B, patches, width); no place is padding."""
        return self.dropout(self.patches(image).flatten(2).transpose(1, 2)), None


class Attention(nn.Module):
    """Multi-head self-attention."""

    keeps_widths = True
    """Channel pruning takes whole heads out of it, never single channels."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.head_width = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, W), (B, 1, 1, L) added to the scores -> (B, L, W)"""
        split = (self.out.in_features // self.head_width, self.head_width)  # fewer heads than were built once pruned
        q, k, v = (part.unflatten(-1, split).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))  # (B, heads, L, d)
        scores = (q * split[1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, L, L)
        if mask is not None:
            scores = scores + mask
        mixed = self.dropout(scores.softmax(-1)) @ v  # (B, heads, L, d)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a two-layer network, each on normalised input and added to what came in.

    In training the share ``skip`` of the samples passes by it (stochastic depth; Huang et al. 2016).
    """

    def __init__(self, width: int, heads: int, dropout: float, skip: float, quiet: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Dropout(skip)
        if quiet:
            nn.init.normal_(self.attention.out.weight, std=QUIET_STD)
            nn.init.normal_(self.down.weight, std=QUIET_STD)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, W) -> (B, L, W)"""
        y = x + self.dropout(self.attention(self.norm1(x), mask))
        y = y + self.dropout(self.down(torch.relu(self.up(self.norm2(y)))))
        if self.training:
            y = x + (y - x) * self.skip(torch.ones_like(x[:, :1, :1]))
        return y  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Stem, positions, blocks, mean over the places that are not padding, linear classifier.

    The mean is taken of what the blocks added up, without a normalisation of each place, so that a word can count more
    than another from the first step on.
    """

    def __init__(
        self, stem: nn.Module, places: nn.Module, blocks: list[nn.Module], width: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem, self.positions = stem, places
        self.blocks = nn.ModuleList(blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Token numbers (B, L) or an image (B, C, H, W) -> logits (B, classes)"""
        vectors, real = self.stem(x)  # (B, L, W), (B, L) or None
        mask = None if real is None else ((1.0 - real) * MASKED)[:, None, None]  # (B, 1, 1, L)
        y = self.positions(vectors)
        for block in self.blocks:
            y = block(y, mask)
        return self.head(self.dropout(mean(y, mask)))  # type: ignore[no-any-return]


def mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, L, W) -> (B, W): mean over the places that the mask (B, 1, 1, L) leaves; over all where it leaves none.

    The softmax of equal scores is the mean, and unlike a division it has an integer kernel in every runtime.
    """
    if mask is None:
        return x.mean(1)
    return (mask[:, 0].softmax(-1) @ x).squeeze(1)


def transformer(
    *,
    classes: int,
    input: Mapping[str, Any],
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    dropout: Sequence[float] = (0.5, 0.3, 0.5),
    learned_positions: bool = True,
) -> Transformer:
    """An encoder that classifies texts or images.

    Args:
        classes: number of classes.
        input: ``{"words": rows of the embedding, "length": tokens}`` for text, ``{"channels", "size": (height, width),
            "patch": pixels}`` for images; the size is a multiple of the patch.
        width: of every vector; a multiple of ``heads``.
        depth: blocks.
        heads: of the attention.
        dropout: shares dropped in training: after the embedding; inside the blocks and before the classifier; whole
            blocks.
        learned_positions: else sinusoidal.

    Raises:
        ValueError: numbers that do not fit each other.
    """
    if (
        min(classes, width, depth, heads) < 1
        or width % heads
        or len(dropout) != 3
        or not all(0 <= p < 1 for p in dropout)
    ):
        raise ValueError(
            "classes, width, depth and heads must be 1 or more, width a multiple of heads and dropout three shares in "
            f"[0, 1), got {classes}, {width}, {depth}, {heads}, {dropout}"
        )
    stem_dropout, inside, skip = dropout
    text = "words" in input
    stem: nn.Module
    if text:
        length = int(input["length"])
        stem = TextStem(int(input["words"]), width, stem_dropout)
    else:
        (high, wide), patch = input["size"], int(input["patch"])
        if high % patch or wide % patch:
            raise ValueError(f"the image's {high}x{wide} is not a multiple of the patch of {patch}x{patch}")
        length = (high // patch) * (wide // patch)
        stem = PatchStem(int(input["channels"]), patch, width, stem_dropout)
    places = Positions(length, width, learned_positions, std=0.02 if text else 1.0)
    blocks: list[nn.Module] = [Block(width, heads, inside, skip, quiet=text) for _ in range(depth)]
    return Transformer(stem, places, blocks, width, classes, inside)


def _fit(data: Dataset) -> Fitted:
    if data.kind == "text":
        contract = measure_contract(data)
        shape = {"words": vocabulary_size(contract), "length": contract.params["length"]}
        return classifier(data, contract, {"input": shape})
    high, wide = size_of(data)
    patch = max(2, math.ceil(max(high, wide) / PATCHES))
    size = tuple(max(1, round(side / patch)) * patch for side in (high, wide))
    if "size" in data.params and size != (high, wide):
        raise DataError(
            f"a transformer of pictures of {high} x {wide} has patches of {patch} x {patch}, so both sides are "
            f"multiples of {patch}; give --size {size[0]}x{size[1]}"
        )
    contract = measure_contract(data, (size[0], size[1]))
    shape = {"channels": contract.channels, "size": list(size), "patch": patch}
    return classifier(data, contract, {"input": shape, "dropout": [0.0, 0.1, 0.0]})


FAMILY = Family(
    name="transformer",
    build=transformer,
    description="encoder for text and for image patches",
    data="sst2",
    kinds=("text", "image"),
    fit=_fit,
    options=Hyperparameters(
        epochs=10,
        batch=64,
        lr=3e-3,
        optimizer="adamw",
        weight_decay=1.0,
        smoothing=0.1,
        average=0.99,
        augment="auto",
        validation=0.1,
        clip=1.0,
    ),
    special={"image": {"epochs": 60, "weight_decay": 0.05, "smoothing": 0.0}},
)
