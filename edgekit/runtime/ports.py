"""A model's inputs and outputs as the backend has them, and how they meet the card inside the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgekit.errors import ModelError
from edgekit.types import Artifact, Dim, QuantizedTensor, TensorSpec

INTEGERS = ("int8", "uint8", "int16")
"""dtypes that carry quantized values when the tensor has a scale."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output.

    Attributes:
        spec: name, dtype and shape as the file has them.
        key: the backend's handle: a name or a tensor index.
        quantization: how its integers stand for real numbers; None for a tensor that is what it is.
    """

    spec: TensorSpec
    key: str | int
    quantization: QuantizedTensor | None = None

    def seen(self, raw: bool) -> TensorSpec:
        """The spec as the user meets it: float32 for quantized integers, unless ``raw``."""
        return self.spec if raw or self.quantization is None else replace(self.spec, dtype="float32")


def unnamed(name: str, axis: int, alone: bool) -> str:
    """A name for a dynamic dimension that the file leaves nameless. ``alone``: the model has one input."""
    return "batch" if axis == 0 and alone else f"{name}_{axis}"


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts ``output_2`` before ``output_10``: numbers by how many digits they have, then by these."""
    parts = (part.lstrip("0") if k % 2 else part for k, part in enumerate(re.split(r"([0-9]+)", name)))
    return [(len(part), part) if k % 2 else (0, part) for k, part in enumerate(parts)]


def meet_card(artifact: Artifact, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[list[Port], list[Port]]:
    """The ports under the names, in the order and with the dimension names of the card.

    Raises:
        ModelError: the card's signature is not this file's.
    """
    if artifact.card is None:
        return list(inputs), list(outputs)
    signature = artifact.card.signature
    quantized = artifact.card.quantized_io
    return (
        _matched(artifact, "input", inputs, signature.inputs, quantized),
        _matched(artifact, "output", outputs, signature.outputs, quantized),
    )


def _matched(
    artifact: Artifact,
    kind: str,
    ports: Sequence[Port],
    specs: Sequence[TensorSpec],
    quantized: object,
) -> list[Port]:
    if len(ports) != len(specs):
        raise _foreign(artifact, f"it lists {len(specs)} {kind}s, the file has {len(ports)}")
    by_name = {port.spec.name: port for port in ports}
    named = {spec.name for spec in specs} == set(by_name)
    matched = []
    for position, spec in enumerate(specs):
        port = by_name[spec.name] if named else ports[position]
        own = port.spec
        if len(own.shape) != len(spec.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(own.shape, spec.shape, strict=True)
        ):
            raise _foreign(artifact, f"it says {spec}, the file has {own}")
        how = port.quantization
        if how is None and own.dtype in INTEGERS and isinstance(quantized, dict):
            how = quantized.get(spec.name)
        if own.dtype != spec.dtype and how is None:
            raise _foreign(artifact, f"it says {spec}, the file has {own}")
        shape = tuple(_dim(a, b, kind) for a, b in zip(own.shape, spec.shape, strict=True))
        matched.append(Port(TensorSpec(spec.name, own.dtype, shape), port.key, how))
    return matched


def _dim(own: Dim, card: Dim, kind: str) -> Dim:
    """The file decides what is fixed; the card names what is not, and knows more of the outputs."""
    if isinstance(own, int):
        return card if kind == "output" else own
    return card if isinstance(card, str) or kind == "output" else own


def _foreign(artifact: Artifact, what: str) -> ModelError:
    return ModelError(
        f"{artifact.path}: the card inside belongs to another file: {what}; export the file again, or remove the card"
    )
