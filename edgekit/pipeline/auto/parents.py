"""The float files that ``auto`` begins with: those that were given, or the exports of a network in both formats."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import open_artifact, sha256_model
from edgekit.errors import GateError, ModelError, UnsupportedError, UsageError
from edgekit.pipeline.auto.checks import SUFFIXES
from edgekit.pipeline.auto.trial_store import TrialStore, Value
from edgekit.quality.contents import with_iospec
from edgekit.quality.coverage import quantized_already
from edgekit.types import Artifact, Card, Format

if TYPE_CHECKING:
    from edgekit.types import Network

log = logging.getLogger("edgekit")
FORMATS = (Format.ONNX, Format.TFLITE)


@dataclass(frozen=True)
class FloatSource:
    """What was named: ``files`` of different formats, or the one network ``source`` to be exported.

    Attributes:
        stem: what a file in a folder is called after.
        identity: what tells these parents from others, for the trial store.
        card: of the first file, or the network.
        factory: what builds the network of ``source``, where that is a checkpoint of the user's own one.
    """

    files: tuple[Artifact, ...]
    source: str | None
    stem: str
    identity: tuple[str, ...]
    card: Card | None
    factory: str | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that may be chosen."""
        return tuple(str(f) for f in FORMATS) if self.source else tuple(str(a.format) for a in self.files)


def float_source(
    models: Sequence[str | Path], factory: str | None = None, io_file: str | Path | None = None
) -> FloatSource:
    """Checks what was named: one network, or float files of one network in different formats.

    Raises:
        UsageError: two files of one format, files of different networks, a network beside something else.
        ModelError, SourceError: a file or the network cannot be read, or a file is quantized already.
    """
    if not models:
        raise UsageError("no model was given; name a float .onnx or .tflite file, both, or a network")
    if len(models) == 1 and Path(models[0]).suffix.lower() not in SUFFIXES:
        if io_file is not None:
            raise UsageError("--io-file is for finished files; what a network means it says itself: see export")
        return _network(str(models[0]), factory)
    if factory is not None:
        raise UsageError("--factory goes with a checkpoint (.safetensors), and these are model files; leave it out")
    files: list[Artifact] = []
    for model in models:
        if Path(model).suffix.lower() not in SUFFIXES:
            raise UsageError(f"{model} is not .onnx or .tflite; give a network by itself, it is exported to both")
        artifact = with_iospec(open_artifact(model), io_file)
        evidence = quantized_already(artifact)
        if evidence:
            raise ModelError(f"{model} is quantized already ({evidence}); give the float file it was made from")
        twin = next((other for other in files if other.format is artifact.format), None)
        if twin is not None:
            raise UsageError(f"{twin.path} and {model} are both .{artifact.format}; give one file of each format")
        files.append(artifact)
    _check_one_network(files)
    return FloatSource(
        tuple(files), None, files[0].path.stem, tuple(sha256_model(file.path) for file in files), files[0].card
    )


def float_files(given: FloatSource, store: TrialStore) -> tuple[tuple[Artifact, ...], tuple[str, ...]]:
    """The float files, exported where a network was named, and what to say of a format that it cannot be exported to.

    Raises:
        UnsupportedError, GateError: it can be exported to neither.
    """
    if given.source is None:
        return given.files, ()
    made: list[Artifact] = []
    refused: list[UnsupportedError | GateError] = []
    notes: list[str] = []
    for format_ in FORMATS:
        try:
            row = store.once(f"export {format_}", _exporting(given, str(format_), store.folder))
        except (UnsupportedError, GateError) as error:
            notes.append(f"no .{format_} file of {given.source}: {error}")
            refused.append(error)
            continue
        made.append(open_artifact(store.folder / row["file"]))
    if not made:
        raise refused[0]
    return tuple(made), tuple(notes)


def _exporting(given: FloatSource, format_: str, folder: Path) -> Callable[[], Value]:
    def work() -> Value:
        from edgekit.pipeline.export import export

        assert given.source is not None  # files are not exported
        made = export(
            given.source,
            to=[format_],
            out=folder,
            name="float",
            factory=given.factory,
            overwrite=True,  # the folder is this command's own
        ).artifacts[0]
        return {"file": made.artifact.path.name, "sha256": made.sha256}

    return work


def _network(source: str, factory: str | None) -> FloatSource:
    from edgekit.models.checkpoint import weights_sha256
    from edgekit.source import resolve

    network: Network = resolve(source, factory=factory)
    weights = network.card.source_sha256 or weights_sha256(network.module.state_dict())
    return FloatSource((), source, network.name, (source, weights), network.card, factory)


def _check_one_network(files: Sequence[Artifact]) -> None:
    hashes = {a.card.source_sha256: a for a in files if a.card is not None and a.card.source_sha256}
    if len(hashes) > 1:
        first, second, *_ = hashes.values()
        raise UsageError(
            f"{first.path} and {second.path} were made from different weights, so speed alone cannot "
            "decide between them; give files of one network"
        )
