"""The files that are tried: the float ones, every scheme a format has, and what is tried where one loses too much."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.artifact import open_artifact, sha256_file, sha256_model, size_bytes
from edgekit.errors import EdgekitError, StorageError, UnreachableError
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline.auto.samples import JudgingSamples
from edgekit.pipeline.auto.trial_store import TrialStore, Value
from edgekit.pipeline.quantize.calibrate import METHOD
from edgekit.pipeline.quantize.run import quantize_on
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.quantization.schemes import scheme, schemes
from edgekit.types import Artifact

log = logging.getLogger("edgekit")
FLOAT = "float"
LEARNT = "learnt"
"""The ranges that a file carries from quantization-aware training."""
ENDS_THE_RUN = (StorageError, UnreachableError)
"""Errors that are not of one candidate: a full disk, a device that is gone. What was finished is kept."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to make a file from ``parent``. ``calibration``: how ranges are found, :data:`LEARNT` or a saved file of
    them; empty where none are needed. ``mixed``: the layers that lose most stay in float until the drop holds.
    ``label``: its name, where these parts do not tell it from all others."""

    parent: Artifact
    scheme: str
    calibration: str = ""
    mixed: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """``onnx int8 minmax``, ``onnx int8 minmax mixed``: what the tables and messages call it."""
        parts = (str(self.parent.format), self.scheme, Path(self.calibration).name, "mixed" if self.mixed else "")
        return self.label or " ".join(part for part in parts if part)

    @property
    def is_float(self) -> bool:
        return self.scheme == FLOAT


@dataclass(frozen=True, slots=True)
class CandidateFile:
    """A candidate's file. ``left_in_float``: name of an operator -> why it is."""

    candidate: Candidate
    artifact: Artifact
    sha256: str
    bytes: int
    notes: tuple[str, ...] = ()
    left_in_float: Mapping[str, str] = field(default_factory=dict)


def first_candidates(parent: Artifact, options: QuantizeOptions) -> list[Candidate]:
    """The float file itself and one candidate for each scheme of its format.

    Ranges do not change the time of a file, so that a calibrated scheme is tried with one way to find them: those that
    a file carries from its training, else :data:`METHOD`. :func:`further_candidates` are the others.
    """
    carries = parent.card is not None and parent.card.ranges is not None
    method = options.calibration or (LEARNT if carries else METHOD)
    found = [Candidate(parent, one.name, method if one.calibrated else "") for one in schemes(parent.format)]
    return [Candidate(parent, FLOAT), *found]


def further_candidates(failed: Candidate, options: QuantizeOptions) -> list[Candidate]:
    """What is tried in place of ``failed``, which lost too much: other ways to find its ranges."""
    if failed.is_float or not scheme(failed.scheme).calibrated or options.calibration is not None:
        return []
    return [Candidate(failed.parent, failed.scheme, method) for method in METHODS if method != failed.calibration]


def mixed_candidate(failed: Candidate) -> list[Candidate]:
    """What is tried where no ranges keep the limit: mixed precision. It takes a file for every layer to find, so that
    it comes last, and not for ``int16x8``, which keeps more bits already."""
    return [replace(failed, mixed=True)] if failed.scheme == "int8" else []


def make(
    candidate: Candidate, samples: JudgingSamples, options: QuantizeOptions, store: TrialStore
) -> CandidateFile | str:
    """The candidate's file, or why it could not be made. Made once, however often the run is begun.

    Raises:
        StorageError: the disk is full.
        UnreachableError: the device is gone.
    """
    if candidate.is_float:
        path = candidate.parent.path
        return CandidateFile(candidate, candidate.parent, sha256_model(path), size_bytes(path))
    place = store.folder / f"{candidate.name.replace(' ', '-')}.{candidate.parent.format}"
    key = f"make {candidate.name}"
    if candidate.mixed:
        key += f" {options.max_drop} {options.min_snr}"  # the limit says which layers stay in float
    row = store.once(key, _making(candidate, place, samples, options))
    if "error" in row:
        return str(row["error"])
    if not place.exists() or sha256_file(place) != row["sha256"]:  # somebody tidied up
        store.forget(key)
        return make(candidate, samples, options, store)
    notes, left = tuple(row["notes"]), row["left_in_float"]
    return CandidateFile(candidate, open_artifact(place), row["sha256"], row["bytes"], notes, left)


def _making(
    candidate: Candidate, place: Path, samples: JudgingSamples, options: QuantizeOptions
) -> Callable[[], Value]:
    def work() -> Value:
        log.info("making %s", candidate.name)
        asked = QuantizeOptions(
            models=candidate.parent.path,
            scheme=candidate.scheme,
            out=place,
            seconds=0,
            data=options.data,
            samples=options.samples,
            calibration=None if candidate.calibration in ("", LEARNT) else candidate.calibration,
            on=options.on,
            metric=options.metric,
            io_file=options.io_file,
            min_snr=options.min_snr,
        )
        judged = None
        if candidate.mixed:
            asked, judged = replace(asked, mixed=True, max_drop=options.max_drop), samples.choose
        try:
            made = quantize_on(candidate.parent, place, asked, samples.fit, judged)
        except ENDS_THE_RUN:
            raise
        except EdgekitError as error:
            return {"error": f"{type(error).__name__}: {error}"}
        file, left = made.artifact, {one.name: one.reason for one in made.account.left_float}
        return {"sha256": file.sha256, "bytes": file.bytes, "notes": list(made.notes), "left_in_float": left}

    return work
