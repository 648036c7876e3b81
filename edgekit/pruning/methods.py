"""The methods of ``prune``: what each is, and the pass that prunes by it.

Each value of ``--method`` is a name of the registry's table ``passes`` whose object is a :class:`PruningMethod`;
packages add theirs with an entry point of the group ``edgekit.passes``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from edgekit import registry
from edgekit.options.prune import PruneOptions
from edgekit.passes import Pass
from edgekit.pruning.blocks import PruneBlocks
from edgekit.pruning.channels import PruneChannels
from edgekit.pruning.weights import PruneMagnitude, PruneTwoOfFour
from edgekit.types import Network


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What a method's pass is made from.

    Attributes:
        network: what is pruned.
        amount: share to remove, above 0 and below 1.
        options: those of the verb.
        gradients: gives for each parameter the size of its gradients on training samples; None without samples, or
            where ``--importance`` does not ask for them.
        inputs: gives model-ready inputs, one tensor an input of the network; None without samples.
    """

    network: Network
    amount: float
    options: PruneOptions
    gradients: Callable[[], Mapping[str, Any] | None]
    inputs: Callable[[], Sequence[Any] | None]


@runtime_checkable
class Structured(Protocol):
    """A pass that leaves a smaller network, so that an amount can be looked for."""

    def most(self, network: Network) -> float:
        """The largest share that can leave."""

    def choice(self, network: Network) -> Sequence[object]:
        """What makes two amounts the same pruning."""


@dataclass(frozen=True, slots=True)
class PruningMethod:
    """One method.

    Attributes:
        name: the value of ``--method``.
        make: the pass that prunes; of a structured method it is :class:`Structured`, too.
        structured: it leaves a smaller network; else weights become zero, and stay zero in the fine-tuning.
        steps: in how many steps the amount is reached where the user does not say, and there are so many epochs.
        amount: the only amount there is; None: any.
    """

    name: str
    make: Callable[[PruneRequest], Pass]
    structured: bool = False
    steps: int = 1
    amount: float | None = None


def method(name: str) -> PruningMethod:
    """The method called ``name``; raises UsageError where none is, and lists those there are."""
    return registry.entry("passes", name, PruningMethod, "pruning method")


def _channels(request: PruneRequest) -> Pass:
    options = request.options
    how = (options.round_to, options.spread, options.importance, request.gradients())
    return PruneChannels(request.amount, *how, options.seed, tuple(options.keep))


def _blocks(request: PruneRequest) -> Pass:
    options = request.options
    return PruneBlocks(request.amount, options.importance, request.inputs(), options.seed, tuple(options.keep))


CHANNELS = PruningMethod("channels", _channels, structured=True)
BLOCKS = PruningMethod("blocks", _blocks, structured=True)
MAGNITUDE = PruningMethod("magnitude", lambda request: PruneMagnitude(request.amount, request.options.spread), steps=4)
TWO_OF_FOUR = PruningMethod("2:4", lambda request: PruneTwoOfFour(), amount=0.5)
