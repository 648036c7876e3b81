"""What the user typed -> a Network. Each kind of source is one module here, named in the table ``sources``.

Nothing is unpickled. Code runs only where the user names it (a factory), never because a file does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.bench.shapes import Shapes
from edgekit.errors import UsageError
from edgekit.source.base import Source
from edgekit.source.checkpoint import Checkpoint
from edgekit.source.spelling import find
from edgekit.source.stateload import with_weights
from edgekit.source.weights import origin, random_note
from edgekit.types import Network

__all__ = ["Source", "builder_of", "find", "origin", "random_note", "resolve"]


def resolve(
    text: str | Path,
    *,
    name: str | None = None,
    shapes: Shapes | None = None,
    factory: str | None = None,
    option: str = "--factory",
    weights: str | Path | None = None,
) -> Network:
    """The network the user named, in eval mode, with example inputs and its card.

    Args:
        text: one of the spellings of the kinds in the table ``sources``.
        name: what to call it instead of its own name.
        shapes: input -> whole shape, for examples of other sizes than its own, or where a factory gives none.
        factory: what builds the network, where ``text`` is a checkpoint of the user's own one.
        weights: a file of weights that are loaded into it.
        option: the option of the command line that ``factory`` comes from, for messages.

    Raises:
        SourceError: it cannot be loaded; the message says what there is, or the user's file, line and exception.
        FactoryNeededError: a checkpoint of the user's own network, without a ``factory``.
        ModelError: a checkpoint or .pt2 file is damaged.
        UnsupportedError: a spelling that edgekit knows but cannot serve here.
        UsageError: ``shapes`` that do not fit its inputs; a ``factory`` that is not needed.
    """
    source, rest = find(str(text))
    if isinstance(source, Checkpoint):
        source = Checkpoint(factory, option)
    elif factory is not None:
        raise UsageError(f"{option} goes with a checkpoint (.safetensors); {text} is not a checkpoint; leave it out")
    if weights is not None:
        source = source.weighed(Path(weights))
    network = source.sized(rest, shapes) if shapes else source.resolve(rest)
    if weights is not None:
        network = with_weights(network, weights)
    return network if name is None else replace(network, card=replace(network.card, name=name))


def builder_of(source: str, factory: str | None) -> str | None:
    """What builds the network of a checkpoint that was made from ``source``: the code that the user named, by
    ``factory`` or as the source itself; None where the checkpoint needs none.

    Raises:
        SourceError: as :func:`find`.
    """
    kind, _ = find(source)
    own = not kind.inert and not isinstance(kind, Checkpoint)
    return source if own and factory is None else factory
