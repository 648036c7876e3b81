"""Ranges that quantization-aware training learnt, on their way from a checkpoint into files and from there to int8."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import DataError
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.transfer import known_tensors
from edgekit.types import Artifact, Card, Format, Network

log = logging.getLogger("edgekit")
_SHOWN = 4


@dataclass(frozen=True)
class Learned:
    """The ranges in a file's card: by the file's own tensor names, and the names of those without one."""

    calibration: Calibration
    missing: tuple[str, ...]

    @property
    def note(self) -> str:
        """What the user is told when they are used."""
        return (
            f"ranges: the {len(self.calibration.ranges)} that quantization-aware training learnt on "
            f"{self.calibration.data}, from the file itself; --calibration minmax finds new ones on --data"
        )


def learned_in(artifact: Artifact) -> Learned | None:
    """The learnt ranges that a file carries; None where it carries none.

    Raises:
        DataError: what its card holds are not ranges.
    """
    document = artifact.card.ranges if artifact.card is not None else None
    if document is None:
        return None
    found = Calibration.from_document(document, f"the card of {artifact.path}")
    return Learned(found, tuple(map(str, document.get("missing", ()))))


def taken_along(network: Network, artifact: Artifact) -> tuple[Card, tuple[str, ...]]:
    """The card of ``artifact`` with the ranges of ``network`` by its own tensor names, and what is to be said of them.

    Args:
        network: as it was exported; ranges that its weights were not learnt with are left behind.
        artifact: the file, with its card, as it was proved.
    """
    card = artifact.card
    assert card is not None  # the converter's
    ranges, notes = _by_tensor(network, artifact, card) if network.card.ranges is not None else (None, ())
    return replace(card, ranges=ranges), notes


def _by_tensor(network: Network, artifact: Artifact, card: Card) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    from edgekit.models.checkpoint import weights_sha256

    if artifact.format not in (Format.ONNX, Format.TFLITE):
        return None, ()
    if card.streaming is not None:
        return None, ("learnt ranges were left behind: they are of whole sequences, this file takes one step",)
    learned = Calibration.from_document(network.card.ranges or {}, f"the card of {network.name}")
    if learned.model_sha256 != weights_sha256(network.module.state_dict()):
        return None, ("learnt ranges were left behind: the weights are no longer those they were learnt with",)
    try:
        matched = known_tensors(learned, artifact)
    except DataError as error:
        return None, (f"learnt ranges were left behind: {error}",)
    ranges = {name: learned.ranges[own] for name, own in matched.pairs.items()}
    slim = replace(
        learned, ranges=ranges, means={}, dead={}, model_sha256="", layers={}, aliases={}, probes=None, notes=()
    )
    notes = [f"carries {len(ranges)} ranges that quantization-aware training learnt; quantize --scheme int8 uses them"]
    if matched.missing:
        rest = len(matched.missing) - _SHOWN
        shown = ", ".join(matched.missing[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
        notes.append(
            f"{len(matched.missing)} tensors of the file have no learnt range ({shown}): quantize needs --data"
        )
    return {**slim.document(), "missing": list(matched.missing)}, tuple(notes)
