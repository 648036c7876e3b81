"""Checkpoints that ``edgekit train``, ``finetune`` and ``prune`` write: weights and card in one safetensors file.

A checkpoint comes from anywhere, so the source that its card names is opened only where that runs no code: a family of
the zoo, ``timm:``, ``hf:``, a ``.keras`` file. The code of a user's own network runs where the user names it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.errors import FactoryNeededError, InputError, SourceError, UsageError
from edgekit.source.base import Source
from edgekit.source.factory import Factory
from edgekit.source.spelling import find
from edgekit.types import Network

if TYPE_CHECKING:
    import torch


class Checkpoint(Source):
    """``factory``: the source that the user names for a checkpoint of an own network; ``option``: where."""

    form: ClassVar[str] = "a .safetensors checkpoint"

    def __init__(self, factory: str | None = None, option: str = "--factory") -> None:
        self.factory, self.option = factory, option

    def claims(self, text: str) -> bool:
        return Path(text).suffix.lower() == ".safetensors"

    def resolve(self, text: str) -> Network:
        from edgekit.models.checkpoint import load_checkpoint

        used: dict[str, Any] = {}

        def build(config: Mapping[str, Any]) -> torch.nn.Module:
            if self.factory is None:
                return self._named_by_the_card(text, config)
            module, own = self._named_by_the_user(self.factory, config)
            used.update(own)
            return module

        network = load_checkpoint(Path(text), build)
        if self.factory is not None and not used:
            family = network.card.config.get("family")
            raise UsageError(f"{self.option} {self.factory}: {text} is a {family} of the zoo; leave {self.option} out")
        return replace(network, card=replace(network.card, config={**network.card.config, **used}))

    def _named_by_the_card(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        spelled = str(config.get("factory", ""))
        try:
            source, rest = find(spelled)
        except InputError as error:
            raise SourceError(f"{text} was made from {spelled!r}, which cannot be loaded: {error}") from error
        if not source.inert:
            known = spelled if isinstance(source, Factory) else "file.py:factory"
            python = self.option.strip("-").replace("-", "_")
            raise FactoryNeededError(
                f"{text} was made from {spelled!r}, and edgekit runs no code because a file names it. If you trust "
                f"that code, name it yourself: {self.option} {shlex.quote(known)} (in Python {python}={known!r})",
                self.option,
                known,
            )
        try:
            return source.rebuild(rest, config)
        except InputError as error:
            raise SourceError(f"{text} was made from {spelled!r}, which cannot be loaded: {error}") from error

    def _named_by_the_user(self, spelled: str, config: Mapping[str, Any]) -> tuple[torch.nn.Module, dict[str, Any]]:
        """The module, and what the card says of its source from now on."""
        source, rest = find(spelled)
        if isinstance(source, Checkpoint):
            raise UsageError(f"{self.option} {spelled}: name the code that makes the network, as file.py:factory")
        return source.rebuild(rest, config), {"factory": spelled, **source.provenance(rest)}
