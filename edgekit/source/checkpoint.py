"""Checkpoints that ``edgekit train``, ``finetune`` and ``prune`` write: weights and card in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.errors import InputError, SourceError
from edgekit.source.base import Source
from edgekit.types import Network

if TYPE_CHECKING:
    import torch


class Checkpoint(Source):
    form: ClassVar[str] = "a .safetensors checkpoint"

    def claims(self, text: str) -> bool:
        return Path(text).suffix.lower() == ".safetensors"

    def resolve(self, text: str) -> Network:
        from edgekit.models.checkpoint import load_checkpoint

        return load_checkpoint(Path(text), _rebuild)


def _rebuild(config: Mapping[str, Any]) -> torch.nn.Module:
    """The module of a checkpoint that was made from another source than the zoo, without its weights."""
    from edgekit.source import find

    spelled = str(config.get("factory", ""))
    try:
        source, rest = find(spelled)
        return source.rebuild(rest, config)
    except InputError as error:
        raise SourceError(f"the checkpoint was made from {spelled!r}, which cannot be had: {error}") from error
