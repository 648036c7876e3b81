"""A module and its example inputs -> a Network; what every kind of source ends with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgekit.errors import SourceError
from edgekit.types import Card, Network, Task

if TYPE_CHECKING:
    import torch


@contextmanager
def seeded() -> Iterator[None]:
    """Torch's random numbers from seed 0, and afterwards as they were: a network without trained weights is the same
    every time it is named, so that its files can be verified against it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def assemble(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    name: str,
    config: Mapping[str, Any],
    spelled: str,
    names: Sequence[str] | None = None,
) -> Network:
    """The network of ``module``, which is run once on its example arguments; ``spelled`` stands in messages.

    ``names`` are those of its inputs, where forward's parameters do not have them.

    Raises:
        SourceError: the module raises on them, or takes or gives no tensor.
    """
    from edgekit.adapter import adapt
    from edgekit.models.checkpoint import weights_sha256

    try:
        adapted, examples, signature = adapt(module, args, kwargs, names)
    except SourceError as error:
        raise SourceError(f"{spelled}: {error}") from error
    digest = weights_sha256(adapted.state_dict())
    card = Card(name, "custom", Task(), signature, config=config, source_sha256=digest)
    return Network(adapted, examples, card)
