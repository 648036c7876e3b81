"""``model.onnx``: a file of anybody's. onnxruntime runs it as the reference; it is exported to TFLite, and to ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from edgekit.artifact import contract_of, open_artifact, sha256_model
from edgekit.bench.shapes import Shapes, free_dims
from edgekit.errors import EdgekitError, SourceError, UnsupportedError, UsageError
from edgekit.source.base import Source
from edgekit.source.foreign import RunnerModule
from edgekit.source.sizes import fitting
from edgekit.types import Card, Dim, Feed, InputSpec, Network, Signature, Task, TensorSpec

SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 128, 224, 256)
"""Sizes of free axes behind the first that are tried in turn until the file runs."""
_SEEDS = (0, 1)


class OnnxFile(Source):
    form: ClassVar[str] = "a .onnx file"

    def claims(self, text: str) -> bool:
        return Path(text).suffix.lower() == ".onnx"

    def resolve(self, text: str) -> Network:
        return self.sized(text, {})

    def sized(self, text: str, shapes: Shapes) -> Network:
        from edgekit.devices import open_runner

        artifact = open_artifact(text)
        if artifact.card is not None and artifact.card.quantized_io:
            raise UnsupportedError(
                f"{text} has integer inputs or outputs: convert the float file it was made from, and quantize what "
                "comes of it"
            )
        module = RunnerModule(open_runner(artifact.path), artifact)
        return _network(module.eval(), free_dims(module.runner.signature, shapes))


def closed(network: Network) -> Network:
    """``network``, an ONNX file, with every axis that is still free at the size 1.

    Raises:
        UsageError: it does not run so; the sizes have to be said.
    """
    module, own = _file(network), network.signature
    free = dict.fromkeys(own.dynamic_dims, 1)
    if not free:
        return network
    known = {
        dim: size
        for spec, now in zip(module.runner.signature.inputs, own.inputs, strict=True)
        for dim, size in zip(spec.shape, now.shape, strict=True)
        if isinstance(dim, str) and isinstance(size, int)
    }
    try:
        made = _network(module, {**known, **free})
    except SourceError as error:
        wanted = " ".join(f"--shape {dim}=N" for dim in free)
        raise UsageError(
            f"{module.artifact.path} has free axes, which a TFLite file fixes, and it does not run with them at 1: "
            f"{error.__cause__}. Say their sizes: {wanted}"
        ) from error
    contract = _fitted(network.card.contract, own, made.signature)
    return replace(made, card=replace(network.card, signature=made.signature, contract=contract))


def fixed_unasked(network: Network, asked: Shapes) -> dict[str, int]:
    """Axes that are free in the file of ``network``, fixed in its signature, and not named in ``asked``; with sizes."""
    found = {}
    for spec, now in zip(_file(network).runner.signature.inputs, network.signature.inputs, strict=True):
        if spec.name in asked:
            continue
        for axis, (dim, size) in enumerate(zip(spec.shape, now.shape, strict=True)):
            if isinstance(dim, str) and isinstance(size, int) and dim not in asked:
                found[f"axis {axis} ({dim}) of {spec.name!r}"] = size
    return found


def _file(network: Network) -> RunnerModule:
    assert isinstance(network.module, RunnerModule)  # of OnnxFile
    return network.module


def _network(module: RunnerModule, dims: Mapping[str, int]) -> Network:
    artifact, found = module.artifact, module.runner.signature
    inputs = tuple(replace(spec, shape=_sized(spec, dims)) for spec in found.inputs)
    signature = Signature(inputs, tuple(replace(spec, shape=_sized(spec, dims)) for spec in found.outputs))
    contract = _fitted(contract_of(artifact), found, signature)
    examples = _examples(module, signature, contract)
    signature = Signature(inputs, _outputs(module, signature, contract))
    digest = sha256_model(artifact.path)
    if artifact.card is not None:
        card = replace(artifact.card, signature=signature, contract=contract, selftest=None)
    else:
        config = {"factory": str(artifact.path), "sha256": digest}
        card = Card(artifact.path.stem, "custom", Task(), signature, contract, config, source_sha256=digest)
    return Network(module, examples, card)


def _fitted(contract: Mapping[str, InputSpec], before: Signature, after: Signature) -> dict[str, InputSpec]:
    """``contract`` with the sizes of the inputs whose axes were fixed."""
    made = dict(contract)
    for old, new in zip(before.inputs, after.inputs, strict=True):
        shape = tuple(size for size in new.shape if isinstance(size, int))
        if new.name in made and old != new and len(shape) == len(new.shape):
            made[new.name] = fitting(new.name, made[new.name], shape)
    return made


def _sized(spec: TensorSpec, dims: Mapping[str, int]) -> tuple[Dim, ...]:
    return tuple(dims.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape)


def _examples(module: RunnerModule, signature: Signature, contract: Mapping[str, InputSpec]) -> Feed:
    """Seeded inputs that the file runs on: free axes at 1, else those behind the first at the least of :data:`SIZES`.

    Raises:
        SourceError: it runs at none of them.
    """
    from edgekit.data.seeded import seeded_feed

    first = {spec.shape[0] for spec in signature.inputs if spec.shape}
    inner = [dim for dim in signature.dynamic_dims if dim not in first]
    why: EdgekitError | None = None
    for size in SIZES if inner else SIZES[:1]:
        feed = seeded_feed(signature, contract, 0, dims=dict.fromkeys(inner, size))
        try:
            module.runner.run(feed)
        except EdgekitError as error:
            why = why or error
            continue
        return dict(feed)
    free = ", ".join(signature.dynamic_dims)
    advice = f"say the sizes it takes: --shape {inner[0]}=N (free are: {free})" if inner else "is it whole?"
    raise SourceError(f"{module.artifact.path} does not run on seeded inputs: {why}; {advice}") from why


def _outputs(module: RunnerModule, signature: Signature, contract: Mapping[str, InputSpec]) -> tuple[TensorSpec, ...]:
    """Outputs with the sizes that follow from fixed inputs: those that two runs on other values agree on."""
    from edgekit.data.seeded import seeded_feed

    if signature.dynamic_dims or all(isinstance(dim, int) for spec in signature.outputs for dim in spec.shape):
        return signature.outputs
    seen = [module.runner.run(seeded_feed(signature, contract, seed)) for seed in _SEEDS]
    made = []
    for spec in signature.outputs:
        shapes = [outputs[spec.name].shape for outputs in seen]
        same = len(shapes[0]) == len(spec.shape) and shapes[0] == shapes[1] and math.prod(shapes[0]) > 0
        made.append(replace(spec, shape=shapes[0]) if same else spec)
    return tuple(made)
