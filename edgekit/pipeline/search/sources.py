"""What a search is given: one network, or float files of one network in different formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.artifact import open_artifact
from edgekit.environments import EXECUTORCH
from edgekit.errors import ModelError, UsageError
from edgekit.options.optimize import FORMATS, OptimizeOptions
from edgekit.pipeline.recipe.contents import is_model
from edgekit.quality.contents import with_iospec
from edgekit.quality.coverage import quantized_already
from edgekit.runtime import runner_class
from edgekit.types import Artifact, Format


def formats_of(options: OptimizeOptions) -> tuple[str, ...]:
    """What a network becomes: what was asked for; without that ONNX, TFLite, and .pte where this machine is the only
    device, has ExecuTorch, and ``--runtimes`` does not leave it out."""
    if options.formats:
        return tuple(dict.fromkeys(options.formats))
    named = not options.runtimes or any(Format.PTE in runner_class(name).formats for name in options.runtimes)
    pte = named and set(options.on) == {"cpu"} and EXECUTORCH.python() is not None
    return tuple(name for name in FORMATS if name != Format.PTE or pte)


def float_files(
    sources: Sequence[str | Path], factory: str | None = None, io_file: str | Path | None = None
) -> dict[str, Artifact]:
    """Format -> the float file; empty where ``sources`` is one network.

    Raises:
        UsageError: two files of one format, files of different networks, a network beside something else; options that
            do not go with these.
        ModelError: a file cannot be read, or is quantized already.
    """
    if not sources:
        raise UsageError("no model was given; name a float .onnx or .tflite file, both, or a network")
    if len(sources) == 1 and not is_model(str(sources[0])):
        if io_file is not None:
            raise UsageError("--io-file is for finished files; what a network means it says itself: see export")
        return {}
    if factory is not None:
        raise UsageError("--factory goes with a checkpoint (.safetensors), and these are model files; leave it out")
    found: dict[str, Artifact] = {}
    for source in sources:
        if not is_model(str(source)):
            raise UsageError(f"{source} is not .onnx or .tflite; give a network by itself, it is exported to both")
        artifact = with_iospec(open_artifact(source), io_file)
        evidence = quantized_already(artifact)
        if evidence:
            raise ModelError(f"{source} is quantized already ({evidence}); give the float file it was made from")
        twin = found.setdefault(str(artifact.format), artifact)
        if twin is not artifact:
            raise UsageError(f"{twin.path} and {source} are both .{artifact.format}; give one file of each format")
    _check_one_network(list(found.values()))
    return found


def _check_one_network(files: Sequence[Artifact]) -> None:
    hashes = {a.card.source_sha256: a for a in files if a.card is not None and a.card.source_sha256}
    if len(hashes) > 1:
        first, second, *_ = hashes.values()
        raise UsageError(
            f"{first.path} and {second.path} were made from different weights, so speed alone cannot "
            "decide between them; give files of one network"
        )
