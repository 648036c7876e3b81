"""Running model files: :func:`load` gives a :class:`~edgekit.runtime.base.Runner` in this process."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import open_artifact
from edgekit.errors import RuntimeMissingError, UsageError
from edgekit.registry import lookup, names
from edgekit.runtime.base import Runner
from edgekit.types import Format

__all__ = ["DEFAULTS", "Runner", "load", "runner_class"]

DEFAULTS: dict[Format, tuple[str, ...]] = {
    Format.ONNX: ("onnxruntime",),
    Format.TFLITE: ("litert", "tflite-runtime", "tensorflow"),
    Format.PT2: ("torch",),
    Format.PTE: ("executorch",),
    Format.SAVED_MODEL: ("tensorflow",),
}
"""Runtimes of each format, tried in this order when none is named: the first that is installed, and that brings the
Flex operators of a file that has them."""


def load(
    path: str | Path,
    *,
    runtime: str | None = None,
    threads: int = 1,
    raw: bool = False,
    stateful: bool = False,
    device: str = "cpu",
    carded: bool = True,
    compiled: str = "",
) -> Runner:
    """Opens a model file in this process.

    Args:
        path: an ``.onnx``, ``.tflite``, ``.pt2`` or ``.pte`` file, or a SavedModel folder.
        runtime: a name of the table ``runtimes``, perhaps with a variant (``onnxruntime:openvino``); None tries those
            of :data:`DEFAULTS` that fit the format.
        threads: threads of the runtime.
        raw: take and give the integers of a quantized file as they are.
        stateful: keep variable state from one run to the next (TFLite recurrent operators).
        device: ``cpu``, or ``cuda:N`` for a GPU of this machine.
        carded: inputs and outputs are called what the card calls them; False: what the file itself calls them.
        compiled: what :meth:`Runner.save_compiled` of this runtime wrote apart from the model, here and from this file.

    Raises:
        ModelError: the file is missing, not valid, or not accepted by the runtime.
        RuntimeMissingError: the runtime's package is not installed, or lacks TensorFlow's own operators that the file
            needs; the message has the command that installs it.
        UsageError: no such runtime, or one of another format.
    """
    artifact = open_artifact(path)
    artifact = artifact if carded else replace(artifact, card=None)
    before = {"compiled": compiled} if compiled else {}
    missing: list[RuntimeMissingError] = []
    for name, kind in candidates(artifact.path, artifact.format, runtime, device, threads):
        try:
            return kind(artifact, threads=threads, raw=raw, stateful=stateful, **asked(name, device), **before)
        except RuntimeMissingError as error:
            missing.append(error)
    # one that is there and lacks an operator says more than one that is not installed
    raise next((error for error in missing if not isinstance(error.__cause__, ImportError)), missing[0])


def candidates(
    path: Path, format_: Format, runtime: str | None, device: str = "cpu", threads: int = 1
) -> list[tuple[str, type[Runner]]]:
    """The runtimes to be tried for a file, in this order: ``runtime``, or those of :data:`DEFAULTS`. None is imported.

    Raises:
        UsageError: no such runtime, one of another format, or one that cannot be had so.
    """
    found = []
    for named in (runtime,) if runtime else DEFAULTS[format_]:
        name = placed(named, device)
        kind = runner_class(name)
        if format_ not in kind.formats:
            known = ", ".join(DEFAULTS[format_])
            raise UsageError(
                f"runtime {name!r} runs .{', .'.join(kind.formats)} files, {path.name} is .{format_}; "
                f"use one of: {known}"
            )
        kind.check_request(name.partition(":")[2], device, threads)
        found.append((name, kind))
    return found


def runner_class(name: str) -> type[Runner]:
    """The runner registered as ``name``, or as what stands before the colon in it; for a variant the one of the table
    ``variants``, where that has one: for this variant, or for all.

    Raises:
        UsageError: no such name, or no such variant of it; the message lists what there is.
    """
    base, colon, variant = name.partition(":")
    found = lookup("runtimes", base)
    if not (isinstance(found, type) and issubclass(found, Runner)):
        raise UsageError(f"the runtime {base!r} is not a Runner; there are: {', '.join(names('runtimes'))}")
    if colon and variant not in found.variants:
        known = ", ".join(f"{base}:{one}" for one in found.variants)
        there = f"there are: {base}, {known}" if known else f"{base} has no variants; leave out {colon + variant!r}"
        raise UsageError(f"no runtime is called {name!r}; {there}")
    key = next((key for key in (name, base) if key in names("variants")), None)
    if not variant or key is None:
        return found
    own = lookup("variants", key)
    if not (isinstance(own, type) and issubclass(own, Runner)):
        raise UsageError(f"what runs the variants of {base!r} is not a Runner")
    return own


def interpreter_apart(runtime: str | None, path: str | Path = "") -> str | None:
    """The Python of an environment beside this one that has ``runtime``, None where it is not needed or not there.

    ``path``: of the model, whose format says which runtime it is where none is named and there is one only.

    Raises:
        UsageError: no such runtime.
        RuntimeMissingError: the variable that names the interpreter names no program.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if runtime is None and suffix in list(Format) and len(DEFAULTS[Format(suffix)]) == 1:
        (runtime,) = DEFAULTS[Format(suffix)]
    environment = runner_class(runtime).environment if runtime else None
    python = environment.python() if environment is not None else None
    return None if python == sys.executable else python


def placed(name: str, device: str) -> str:
    """The runtime ``name`` on ``device``: with the variant that runs there, where none is named.

    Raises:
        UsageError: it does not run there.
    """
    if device == "cpu":
        return name
    there = runner_class(name).on_cuda
    base, _, variant = name.partition(":")
    if not there:
        raise UsageError(
            f"{base} does not run on {device}; there are torch (.pt2) and onnxruntime (.onnx), or --on cpu"
        )
    if variant and variant not in there:
        known = ", ".join(f"{base}:{one}" for one in there)
        raise UsageError(f"{name} does not run on {device}; there are: {known}; or --on cpu")
    return f"{base}:{variant or there[0]}"


def asked(name: str, device: str) -> dict[str, str]:
    """The keywords of a runner that ask for a variant and a device; none for what any runner does."""
    variant = name.partition(":")[2]
    given = {"variant": variant} if variant else {}
    return given if device == "cpu" else {**given, "device": device}
