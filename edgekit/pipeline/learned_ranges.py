"""Ranges that quantization-aware training learnt, on their way from a checkpoint into files and from there to int8."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import DataError
from edgekit.passes.calibration import Calibration
from edgekit.passes.transfer import known_tensors
from edgekit.types import Artifact, Card, Format

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
        DataError: what its card holds are no ranges.
    """
    document = artifact.card.ranges if artifact.card is not None else None
    if document is None:
        return None
    found = Calibration.from_document(document, f"the card of {artifact.path}")
    return Learned(found, tuple(map(str, document.get("missing", ()))))


def taken_along(
    card: Card, weights_sha256: str, artifact: Artifact
) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """The ranges of a network's ``card`` by the tensor names of ``artifact``, for its card; and what is to be said.

    Args:
        weights_sha256: of the network that was exported; ranges of other weights are left behind.
        artifact: the file, with its card, as it was proved.
    """
    if card.ranges is None or artifact.format not in (Format.ONNX, Format.TFLITE):
        return None, ()
    learned = Calibration.from_document(card.ranges, f"the card of {card.name}")
    if learned.model_sha256 != weights_sha256:
        return None, ("learnt ranges were left behind: the weights are no longer those they were learnt with",)
    try:
        matched = known_tensors(learned, artifact)
    except DataError as error:
        return None, (f"learnt ranges were left behind: {error}",)
    ranges = {name: learned.ranges[own] for name, own in matched.pairs.items()}
    slim = replace(learned, ranges=ranges, means={}, model_sha256="", layers={}, aliases={}, probes=None, notes=())
    notes = [f"carries {len(ranges)} ranges that quantization-aware training learnt; quantize --scheme int8 uses them"]
    if matched.missing:
        rest = len(matched.missing) - _SHOWN
        shown = ", ".join(matched.missing[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
        notes.append(
            f"{len(matched.missing)} tensors of the file have no learnt range ({shown}): quantize needs --data"
        )
    return {**slim.document(), "missing": list(matched.missing)}, tuple(notes)
