"""What stands where a residual block was pruned whole, and how a checkpoint says so.

A block whose shortcut is the identity gives what it takes once its branch adds nothing, through the activation it ends
in. The card's ``config["skipped"]`` is the manifest, block name -> what is left: :func:`skip_blocks` takes the blocks
out of a freshly built module before its weights go in, so that nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import ModelError

LEFT = ("identity", "relu")
"""What may be left of a block: what it takes, or that through the ReLU it ends in."""


class Skipped(nn.Module):
    """Gives its first input on; other inputs (a mask) are not looked at."""

    def __init__(self, left: str) -> None:
        super().__init__()
        self.left = left

    def forward(self, x: Tensor, *others: Any, **named: Any) -> Tensor:
        """Any shape, kept."""
        return torch.relu(x) if self.left == "relu" else x

    def extra_repr(self) -> str:
        return self.left


def skip_blocks(module: nn.Module, skipped: Mapping[str, str]) -> None:
    """Takes the blocks ``skipped`` (name -> one of :data:`LEFT`) out of ``module``, in place.

    Raises:
        ModelError: the module has no such block, or what is left of it is not known here.
    """
    for name, left in skipped.items():
        if left not in LEFT:
            raise ModelError(
                f"of the block {name} {left!r} is left, which this version does not support ({', '.join(LEFT)}); "
                "install "
                "the version of edgekit that wrote the checkpoint"
            )
        try:
            module.set_submodule(name, Skipped(left), strict=True)
        except (AttributeError, ValueError) as error:
            raise ModelError(
                f"the block {name} was pruned, but the network has no such block now ({error}); the code that "
                "makes the network has changed since"
            ) from error
