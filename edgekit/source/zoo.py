"""Networks of the zoo with their trained weights, by family (``cnn``) or as ``FAMILY-WHAT`` (``lstm-etth1``)."""

from __future__ import annotations

from typing import ClassVar

from edgekit import registry
from edgekit.errors import SourceError
from edgekit.source.base import Source
from edgekit.types import Network


class Zoo(Source):
    form: ClassVar[str] = "a zoo name"
    inert: ClassVar[bool] = True

    def claims(self, text: str) -> bool:
        families = registry.names("families")
        return text in families or (text.partition("-")[0] in families and _is_shipped(text))

    def resolve(self, text: str) -> Network:
        return _family(text) if text in registry.names("families") else _further(text)


def _family(name: str) -> Network:
    from edgekit.models.checkpoint import load_checkpoint
    from edgekit.models.family import family

    weights = family(name).weights
    if not weights.is_file():
        raise SourceError(
            f"the trained weights of {name!r} are not there ({weights.name}); train them: edgekit train {name} --data "
            f"{family(name).data} -o {name}.safetensors"
        )
    return load_checkpoint(weights)


def _is_shipped(name: str) -> bool:
    from edgekit.models.family import shipped

    return name in shipped()


def _further(name: str) -> Network:
    """The network shipped as ``FAMILY-WHAT`` (``lstm-etth1``, ``cnn-pruned``)."""
    from edgekit.models.checkpoint import load_checkpoint
    from edgekit.models.family import renamed, shipped

    return renamed(load_checkpoint(shipped()[name]), name)
