"""A calibration of one model as it holds for another file of the same network: torch module, ONNX, TFLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from edgekit.artifact import contract_of, sha256_model
from edgekit.errors import DataError, UsageError
from edgekit.quality.contents import file_signature
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.calibrate.fingerprint import ROUNDING, Book, Print, Probes, prints_of
from edgekit.quantization.calibrate.histogram import METHODS, Range
from edgekit.quantization.calibrate.observe import calibrate, file_tensors, layers_of
from edgekit.types import Artifact, Feed

SAME = 0.01
"""Share of its span by which the ranges of two tensors may differ where it cannot be told which of them is meant."""
LEAST = 0.5
"""Share of a file's tensors that a calibration must know: below, it is of another network or of other weights."""
_SHOWN = 6


@dataclass(frozen=True)
class Matched:
    """Which tensor of a file is which of a calibration.

    Attributes:
        pairs: tensor of the file -> tensor of the calibration with the same numbers.
        unmatched: tensors of the file that the calibration's model never has.
        ambiguous: tensor of the file -> tensors of the calibration that it may be, where their ranges differ.
    """

    pairs: Mapping[str, str]
    unmatched: tuple[str, ...] = ()
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Tensors of the file without a range of their own."""
        return (*self.unmatched, *self.ambiguous)


def transfer(
    calibration: Calibration,
    artifact: Artifact,
    feeds: Iterable[Feed] | None = None,
    prepared: bytes | None = None,
) -> Calibration:
    """The ranges of ``calibration`` by the tensor names of ``artifact``, a float .onnx or .tflite file.

    The probes of the calibration are run through the file, and tensors with the same fingerprints are taken for the
    same (see :mod:`edgekit.quantization.calibrate.fingerprint`); layouts, names, fusions and paddings may differ. A
    calibration that was made on this very file is returned as it is.

    Args:
        calibration: of the torch module (``module_calibration``), of another file of the network, or of this one.
        feeds: calibration samples for the file, on which tensors that are not known again are calibrated themselves.
        prepared: the file in the form that it is quantized from, where somebody has made that already.

    Raises:
        DataError: the calibration is of another network, or tensors are not known again and there are no ``feeds``; the
            message names them.
    """
    digest = sha256_model(artifact.path)
    if calibration.model_sha256 == digest:
        return calibration
    prints, layers = _prints_of_file(calibration, artifact, prepared)
    matched = _required(match(calibration, prints), artifact)
    ranges = {name: calibration.ranges[own] for name, own in matched.pairs.items()}
    means = {name: calibration.means[own] for name, own in matched.pairs.items() if own in calibration.means}
    notes = list(calibration.notes)
    if matched.missing:
        found = _by_themselves(calibration, artifact, matched, feeds, prepared)
        ranges |= {name: found.ranges[name] for name in matched.missing}
        notes.append(
            f"{len(matched.missing)} of {len(prints)} tensors are not those of the calibration and were calibrated on "
            f"this file: {listed(matched.missing)}"
        )
    return replace(
        calibration,
        ranges=ranges,
        means=means,
        model_sha256=digest,
        notes=tuple(notes),
        layers={name: calibration.layers.get(own, layers.get(name, "")) for name, own in matched.pairs.items()},
        aliases={},
        dead={name: calibration.dead[own] for name, own in matched.pairs.items() if own in calibration.dead},
        probes=replace(_probes(calibration), prints=prints),
    )


def known_tensors(calibration: Calibration, artifact: Artifact) -> Matched:
    """Which tensors of ``artifact`` a calibration of another model knows, and which it does not.

    Raises:
        DataError: the calibration is of another network.
    """
    return _required(match(calibration, _prints_of_file(calibration, artifact)[0]), artifact)


def _required(matched: Matched, artifact: Artifact) -> Matched:
    count = len(matched.pairs) + len(matched.missing)
    if len(matched.pairs) < LEAST * count:
        raise DataError(
            f"of {count} tensors of {artifact.path} the calibration knows {len(matched.pairs)}: it was made on "
            "another network, or on other weights of this one; calibrate this file with --data"
        )
    return matched


def match(calibration: Calibration, prints: Mapping[str, tuple[Print, ...]]) -> Matched:
    """Which tensor of ``calibration`` each of a file's fingerprints is."""
    book = Book({name: rows for name, rows in _probes(calibration).prints.items() if name in calibration.ranges})
    pairs, unmatched, ambiguous = {}, [], {}
    for name, rows in prints.items():
        near = book.candidates(rows)
        if not near:
            unmatched.append(name)
            continue
        rivals = [one.name for one in near if one.distance <= near[0].distance + ROUNDING]
        if _agree([calibration.ranges[rival] for rival in rivals]):
            pairs[name] = rivals[0]
        else:
            ambiguous[name] = tuple(rivals)
    return Matched(pairs, tuple(unmatched), ambiguous)


def _agree(ranges: list[Range]) -> bool:
    """Whether it makes no difference which of the ranges is taken."""
    span = max(one.high - one.low for one in ranges)
    ends = [(one.low, one.high) for one in ranges]
    return all(abs(a - b) <= SAME * span for end in zip(*ends, strict=True) for a in end for b in end)


def _probes(calibration: Calibration) -> Probes:
    if calibration.probes is None:
        raise DataError("the calibration has no probes to know tensors by; make it again with --save-calibration")
    return calibration.probes


def _prints_of_file(
    calibration: Calibration, artifact: Artifact, prepared: bytes | None = None
) -> tuple[dict[str, tuple[Print, ...]], dict[str, str]]:
    """Fingerprints of the file's tensors on the calibration's probes, and the layers they come from."""
    card = artifact.card
    signature = card.signature if card is not None else file_signature(artifact)
    try:
        feeds = _probes(calibration).aligned(signature, contract_of(artifact))
    except UsageError as error:
        raise DataError(f"the calibration was made on another network than {artifact.path}: {error}") from error
    runs = [values for _, values in file_tensors(artifact.path, artifact.format, signature, feeds, prepared)]
    prints = prints_of(runs)
    return prints, layers_of(artifact.path, artifact.format, prints)


def _by_themselves(
    calibration: Calibration,
    artifact: Artifact,
    matched: Matched,
    feeds: Iterable[Feed] | None,
    prepared: bytes | None,
) -> Calibration:
    """The file's own calibration, for tensors that are not those of another."""
    if feeds is None:
        said = [f"no counterpart of {listed(matched.unmatched)}"] if matched.unmatched else []
        said += [
            f"{name} may be {' or '.join(own)}, whose ranges differ"
            for name, own in list(matched.ambiguous.items())[:_SHOWN]
        ]
        raise DataError(
            f"the calibration has no range for {len(matched.missing)} tensors of {artifact.path}: {'; '.join(said)}. "
            "Give --data as well, to calibrate these on the file itself"
        )
    signature = artifact.card.signature if artifact.card is not None else file_signature(artifact)
    method = calibration.method if calibration.method in METHODS else "minmax"
    return calibrate(
        artifact.path,
        feeds,
        signature,
        method=method,
        data=calibration.data,
        format=artifact.format,
        prepared=prepared,
    )
