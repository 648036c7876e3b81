"""``prune --method random`` and ``quantize --scheme half``."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx
import torch
from onnx import numpy_helper

from edgekit.errors import UsageError
from edgekit.passes import Model, Pass, PassContext
from edgekit.pruning.methods import PruneRequest, PruningMethod
from edgekit.quantization.schemes import Scheme, SchemeRequest
from edgekit.types import Artifact, Format, Network, PassResult, Step


@dataclass(frozen=True)
class RandomZeros(Pass):
    """Makes a random share of the weights zero: what a method has to be better than."""

    amount: float
    seed: int
    name: ClassVar[str] = "prune-random"

    def describe(self, model: Model) -> Step:
        return Step("prune", {"method": "random", "amount": self.amount, "seed": self.seed}, {})

    def apply(self, model: Model, context: PassContext) -> PassResult:
        if not isinstance(model, Network):
            raise UsageError("pruning works on a network, not on a model file")
        module = copy.deepcopy(model.module)
        generator = torch.Generator().manual_seed(self.seed)
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.data *= torch.rand(weight.shape, generator=generator) >= self.amount
        card = replace(model.card.with_step(self.describe(model)), quality=(), selftest=None, source_sha256="")
        return PassResult(Network(module, model.example_inputs, card), True)


@dataclass(frozen=True)
class HalfWeights(Pass):
    """Stores the weights of an ONNX file as float16, each widened again by a Cast."""

    name: ClassVar[str] = "quantize-half"

    def describe(self, model: Model) -> Step:
        return Step("quantize", {"scheme": "half", "weights": "float16"}, {"onnx": onnx.__version__})

    def apply(self, model: Model, context: PassContext) -> PassResult:
        if not isinstance(model, Artifact) or context.target is None:
            raise UsageError("this pass works on .onnx files and writes a target")
        proto = onnx.load(str(model.path))
        for weight in [w for w in proto.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and len(w.dims) > 1]:
            name, half = weight.name, numpy_helper.to_array(weight).astype("float16")
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            proto.graph.node.insert(0, onnx.helper.make_node("Cast", [weight.name], [name], f"{name}_cast", to=1))
        onnx.save(proto, str(context.target))
        return PassResult(Artifact(context.target, model.format), True)


def _random(request: PruneRequest) -> Pass:
    return RandomZeros(request.amount, request.options.seed)


def _half(request: SchemeRequest) -> Pass:
    return HalfWeights()


RANDOM = PruningMethod("random", _random)
HALF = Scheme("half", _half, formats=(Format.ONNX,), floor_db=30.0)
