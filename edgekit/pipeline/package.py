"""``package``: a proved model file becomes what an app loads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from edgekit import registry
from edgekit.artifact import contract_of, library_versions, onnx_parts, open_artifact, sha256_model
from edgekit.data.seeded import seeded_feed
from edgekit.devices import open_runner
from edgekit.errors import ModelError, ParityError, UnsupportedError, UsageError
from edgekit.iospec import read_labels
from edgekit.leftovers import sweep, temporary_name
from edgekit.options.base import with_options
from edgekit.options.package import PackageOptions
from edgekit.outputs import check_output, output_folder, real_place, writing
from edgekit.packaging.base import Package, Subject, Target, Tensor, identifier
from edgekit.packaging.samples import sample_of
from edgekit.pipeline.verify import replay
from edgekit.quality.contents import file_signature
from edgekit.results.package import PackagedFile, PackageResult
from edgekit.results.proof import CaseResult
from edgekit.runtime.quantization import quantize
from edgekit.types import Artifact, Card, Feed, Format, InputSpec, TensorSpec
from edgekit.version import __version__

MANIFEST = "package.json"
_NAMED = ("classification", "multilabel")
"""Tasks whose answers are names."""
_RUNTIME = {Format.ONNX: "onnxruntime", Format.TFLITE: "ai-edge-litert"}


@with_options(PackageOptions)
def package(options: PackageOptions) -> PackageResult:
    """Runs the self-test of the file's card here, and publishes the folder ``out`` with what an app needs.

    Raises:
        UsageError: no such target, labels of another number, or a folder that is not empty.
        ModelError: the file is missing, not valid, or has no card.
        UnsupportedError: the target does not take the format, or cannot compute the preprocessing.
        ParityError: the file does not compute here what its card promises.
    """
    target = registry.entry("packages", options.for_, Target, "target of package")  # type: ignore[type-abstract]
    folder = _folder(Path(options.out), options.overwrite)
    artifact = _artifact(Path(options.model), options.for_, target)
    assert artifact.card is not None
    card = _with_labels(artifact, artifact.card, options.labels)
    subject = _subject(replace(artifact, card=card), card)
    _check_one_sample(artifact.path, subject)
    _check_kinds(subject, options.for_, target)
    target.check(subject)
    with open_runner(artifact.path) as runner:
        test = replay(runner, artifact)
    assert test is not None  # _artifact has looked
    if not test.passed:
        raise ParityError(
            f"{artifact.path} does not compute here what its card promises: {test.reason}; nothing was published. "
            "Export or quantize it again on this machine"
        )
    made = target.make(subject)
    digest = sha256_model(artifact.path)
    files = _manifest(made, options.for_, subject, digest)
    _publish(files, folder)
    return _result(options, subject, made, files, test, digest)


def _artifact(path: Path, name: str, target: Target) -> Artifact:
    """The model file, with a card that has a self-test."""
    artifact = open_artifact(path)
    if artifact.format not in target.formats:
        known = " or ".join(f".{one}" for one in target.formats)
        what = "a SavedModel folder" if artifact.format is Format.SAVED_MODEL else f"a .{artifact.format} file"
        raise UnsupportedError(
            f"{path} is {what}; --for {name} takes {known}: edgekit export SOURCE --to {target.formats[-1]}"
        )
    card = artifact.card
    if card is None:
        raise ModelError(
            f"{path} has no card, so nothing says how a sample becomes its input or what it must answer; export the "
            "network with edgekit (edgekit export SOURCE --to onnx --to tflite)"
        )
    if card.selftest is None:
        raise ModelError(
            f"{path}: its card has no self-test, so nothing could say whether it runs right on the target; export or "
            "quantize it again with edgekit"
        )
    if card.streaming is not None:
        raise UnsupportedError(
            f"{path} takes one step of a sequence a run, and its states with it, which no package does; package the "
            "file of the whole sequence (export without --streaming)"
        )
    if artifact.format is Format.ONNX and onnx_parts(path):
        raise UnsupportedError(
            f"{path} keeps its weights in {', '.join(onnx_parts(path))} beside it; export it again as one file"
        )
    return artifact


def _with_labels(artifact: Artifact, card: Card, labels: str | Path | None) -> Card:
    """``card`` with the labels that the user named, or its own.

    Raises:
        UsageError: there are none and the answers are names, or another number than the outputs have values.
    """
    task = card.task
    names = task.labels if labels is None else read_labels(Path(labels))
    if task.kind not in _NAMED:
        return replace(card, task=replace(task, labels=names))
    wide = card.signature.outputs[0].shape[-1] if card.signature.outputs[0].shape else 1
    if not names:
        raise UsageError(
            f"the card of {artifact.path} has no labels, and the answers of {task.kind} are names; give --labels FILE "
            f"with {wide} lines, one name a line in the order of the outputs"
        )
    if isinstance(wide, int) and len(names) != wide:
        where = f"the card of {artifact.path}" if labels is None else str(labels)
        raise UsageError(f"{where} has {len(names)} labels, the output {card.signature.outputs[0]} {wide} values")
    return replace(card, task=replace(task, labels=names))


def _subject(artifact: Artifact, card: Card) -> Subject:
    held = file_signature(artifact)
    contract = contract_of(artifact)
    inputs = _tensors(card.signature.inputs, held.inputs, card, contract)
    outputs = _tensors(card.signature.outputs, held.outputs, card, {})
    seen = replace(card.signature, inputs=tuple(_seen(spec, card) for spec in card.signature.inputs))
    assert card.selftest is not None
    feed = seeded_feed(seen, contract, card.selftest.seed)
    promised = card.selftest.outputs
    samples = {
        one.name: sample
        for one in inputs
        if one.rule is not None and (sample := sample_of(one.rule, one.shape, one.dtype)) is not None
    }
    versions = dict(card.steps[-1].versions) if card.steps else {}
    runtime = _RUNTIME[artifact.format]
    return Subject(
        artifact=artifact,
        card=card,
        identifier=identifier(card.name),
        inputs=inputs,
        outputs=outputs,
        feed=_as_held(feed, inputs),
        expected=tuple(np.asarray(promised.get(one.name, ()), np.float64) for one in outputs),
        tolerance=card.selftest.tolerance,
        samples=samples,
        labels=card.task.labels,
        versions={"edgekit": __version__, **versions, **library_versions(runtime)},
    )


def _seen(spec: TensorSpec, card: Card) -> TensorSpec:
    return replace(spec, dtype="float32") if spec.name in card.quantized_io else spec


def _as_held(feed: Feed, inputs: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    return tuple(
        feed[one.name] if one.quantization is None else quantize(feed[one.name], one.quantization) for one in inputs
    )


def _tensors(
    specs: tuple[TensorSpec, ...], held: tuple[TensorSpec, ...], card: Card, contract: Mapping[str, InputSpec]
) -> tuple[Tensor, ...]:
    """The tensors in the card's order, each with its place in the file: by name, or by place where names differ."""
    places = {spec.name: k for k, spec in enumerate(held)}
    named = set(places) == {spec.name for spec in specs}
    made = []
    for k, spec in enumerate(specs):
        place = places[spec.name] if named else k
        rule = contract.get(spec.name)
        made.append(
            Tensor(
                name=spec.name,
                file_name=held[place].name,
                position=place,
                dtype=held[place].dtype,
                shape=spec.resolved(),
                quantization=card.quantized_io.get(spec.name),
                rule=None if rule is None or rule.kind in ("array", "noise") else rule,
            )
        )
    return tuple(made)


def _check_one_sample(path: Path, subject: Subject) -> None:
    """
    Raises:
        UnsupportedError: the file takes several samples a run, and an app has one.
    """
    for one in subject.inputs:
        if one.rule is not None and one.rule.kind != "array" and one.shape and one.shape[0] > 1:
            raise UnsupportedError(
                f"{path} takes {one.shape[0]} samples a run ({one.name}), and an app has one; export it for one: "
                f"edgekit export SOURCE --shape {one.name}=1x…, the other sizes as they are"
            )


def _check_kinds(subject: Subject, name: str, target: Target) -> None:
    for one in subject.made:
        assert one.rule is not None
        if one.rule.kind not in target.kinds:
            known = ", ".join(target.kinds) or "none"
            other = "" if name == "python" else "package it --for python, or "
            raise UnsupportedError(
                f"--for {name} has no preprocessing of {one.rule.kind} in {target.language} (it has: {known}), which "
                f'the input {one.name!r} needs; {other}export the network with kind = "array" in an io.toml and make '
                "its tensors yourself"
            )


def _folder(out: Path, overwrite: bool) -> Path:
    """The folder to publish, behind symbolic links.

    Raises:
        UsageError: it is a file, cannot be made, or holds something.
    """
    check_output(out / MANIFEST)
    place = real_place(out)
    if place.is_dir() and any(place.iterdir()):
        if not overwrite:
            raise UsageError(f"{out} is not empty; name a new folder, or give --overwrite to replace a package")
        if not (place / MANIFEST).is_file():
            raise UsageError(
                f"{out} is not empty, and not a package that edgekit made: it has no {MANIFEST}; name another"
            )
    return place


def _manifest(made: Package, target: str, subject: Subject, digest: str) -> dict[str, bytes]:
    """The files with ``package.json``, which lists the others."""
    listed = [
        {"path": name, "bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in made.files.items()
    ]
    document = {
        "schema": "edgekit.package/1",
        "for": target,
        "name": subject.card.name,
        "model": {"file": subject.model_file, "sha256": digest},
        "versions": dict(subject.versions),
        "files": listed,
    }
    return {**made.files, MANIFEST: (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()}


def _publish(files: Mapping[str, bytes], folder: Path) -> None:
    """The folder with all its files, or what was there before."""
    with writing(folder), output_folder(folder.parent):
        sweep(folder.parent)
        stage = folder.with_name(temporary_name(folder.name))
        before = folder.with_name(temporary_name(folder.name, ".before"))
        try:
            for name, data in files.items():
                place = stage / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            if folder.exists():
                os.replace(folder, before)
            try:
                os.replace(stage, folder)
            except OSError:
                if before.exists():
                    os.replace(before, folder)
                raise
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)


def _result(
    options: PackageOptions, subject: Subject, made: Package, files: Mapping[str, bytes], test: CaseResult, digest: str
) -> PackageResult:
    figures = made.figures or {}
    return PackageResult(
        model=Path(options.model),
        sha256=digest,
        target=options.for_,
        name=subject.card.name,
        out=Path(options.out),
        files=tuple(PackagedFile(name, len(data), sha256(data).hexdigest()) for name, data in files.items()),
        selftest=test,
        preprocessing={one.name: one.rule.kind for one in subject.made if one.rule is not None},
        versions=subject.versions,
        arena_bytes=figures.get("arena_bytes"),
        operators=tuple(figures.get("operators", ())),
        notes=made.notes,
    )
