"""What every kind of source is: a spelling it knows by sight, and the Network behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.bench.shapes import Shapes
from edgekit.source.sizes import resized

if TYPE_CHECKING:
    import torch

    from edgekit.types import Network

RETURN = "return module, torch.zeros(1, 3, 32, 32)    # or a tuple of tensors, or a dict by argument name"
"""What a factory ends with; the end of many messages."""


class Source(ABC):
    """One kind of source. Importing its module must not import the packages behind it.

    Attributes:
        form: how it is spelled, for messages.
        prefixed: it is spelled ``NAME:REST`` with its name in the table ``sources``; :meth:`resolve` then gets REST.
        inert: making a network of this kind runs no code but that of installed packages, and opens no checkpoint, so
            that the card of a checkpoint may name it; any other kind the user has to name.
    """

    form: ClassVar[str]
    prefixed: ClassVar[bool] = False
    inert: ClassVar[bool] = False

    def claims(self, text: str) -> bool:
        """Whether ``text`` is of this kind; asked in the order of the table, never for a prefixed kind."""
        return False

    @abstractmethod
    def resolve(self, text: str) -> Network:
        """The network, in eval mode, with example inputs and its card.

        Raises:
            SourceError: it cannot be loaded; the message says what there is.
            UnsupportedError: edgekit knows the spelling but cannot serve it here.
        """

    def sized(self, text: str, shapes: Shapes) -> Network:
        """The network with example inputs of these shapes, input -> whole shape.

        Raises:
            UsageError: they do not fit its inputs.
            SourceError, UnsupportedError: as :meth:`resolve`; or the network raises on them.
        """
        return resized(self.resolve(text), shapes)

    def weighed(self, weights: Path) -> Source:
        """This kind of source for a network that gets its weights from a file: with the number of classes that the file
        has, without weights of its own.

        Raises:
            ModelError: the file cannot be read.
        """
        return self

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        """The module alone, for weights that a checkpoint holds; ``config`` is that of the checkpoint's card."""
        return self.resolve(text).module

    def provenance(self, text: str) -> dict[str, Any]:
        """What the card of a checkpoint says of the source besides its spelling, to tell later that it has changed."""
        return {}
