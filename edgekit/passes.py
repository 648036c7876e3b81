"""The one shape of a pass, and the checks on what it promised, which stand here and not in each pass."""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from edgekit.artifact import sha256_model
from edgekit.errors import EdgekitError, GateError
from edgekit.types import Artifact, Network, PassResult, Signature, Step, TensorSpec

Model = Network | Artifact
AROUND_ATTENTION = "around attention integer kernels take longer than float ones"
"""Why both formats leave operators there in float."""


class PassError(GateError):
    """A pass broke a promise: it touched its input, changed the signature, or made something that does not load."""


@dataclass(frozen=True, slots=True)
class PassContext:
    """What a pass works with.

    Attributes:
        target: where a pass on a model file writes its result, not yet published (see ``artifact.publishing``);
            None for a pass on a network.
        prepared: of a float file that is to be quantized: the file in the form that it is quantized from
            (:func:`edgekit.quantization.prepared.prepare`), where somebody has made that already.
    """

    target: Path | None = None
    prepared: bytes | None = None


class Pass(ABC):
    """One change to a model, with its options. A subclass writes :meth:`apply` and :meth:`describe`."""

    name: ClassVar[str]
    integer_io: bool = False
    """True when inputs and outputs of the result may be integers that stand for the same real values."""

    @abstractmethod
    def describe(self, model: Model) -> Step:
        """The step that :meth:`run` would record, without doing anything (``--dry-run``)."""

    @abstractmethod
    def apply(self, model: Model, context: PassContext) -> PassResult:
        """Makes the result: a new network, or the file ``context.target``. Must leave ``model`` as it is."""

    @final
    def run(self, model: Model, context: PassContext | None = None) -> PassResult:
        """Applies the pass and checks what every pass promises.

        Raises:
            PassError: the input was changed, the signature was not kept, or the result does not load or run.
            EdgekitError: what the pass itself refuses.
        """
        before = fingerprint(model)
        result = self.apply(model, context or PassContext())
        if fingerprint(model) != before:
            raise PassError(
                f"pass {self.name}: it changed its input; nothing is published. This is a fault of the pass"
            )
        wanted, found = signature_of(model), self._loaded(result.model)
        if not _same(wanted, found, self.integer_io):
            raise PassError(
                f"pass {self.name}: the signature was {_show(wanted)} and became {_show(found)}; nothing is published. "
                "This is a fault of the pass"
            )
        return result

    def _loaded(self, model: Model) -> Signature:
        try:
            return signature_of(model)
        except EdgekitError as error:
            raise PassError(f"pass {self.name}: its result does not load: {error}; nothing is published") from error


def fingerprint(model: Model) -> str:
    """A hash of all that a pass must leave alone: a file's bytes, or a module's structure, mode and state."""
    if isinstance(model, Artifact):
        return sha256_model(model.path)
    digest = hashlib.sha256(f"{model.module}{model.module.training}".encode())
    for name, tensor in model.module.state_dict().items():
        digest.update(name.encode())
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(np.asarray(tensor.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()


def signature_of(model: Model) -> Signature:
    """The signature as the model itself has it: the runtime's for a file, what the module gives for a network.

    A card is not asked: it names what a file leaves nameless, and the result of a pass has none yet.

    Raises:
        EdgekitError: it does not load, or does not run.
    """
    if isinstance(model, Artifact):
        from edgekit.devices import open_runner

        with open_runner(model.path, raw=True, carded=False) as runner:  # native code may abort on what a pass made
            return runner.signature
    return _ran(model)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keeps what native code writes to descriptor 2 (LiteRT's banner) away from the user."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _ran(network: Network) -> Signature:
    import torch

    from edgekit.runtime.torch import call_module

    arrays = [np.asarray(network.example_inputs[spec.name]) for spec in network.signature.inputs]
    try:
        results = call_module(network.module, arrays, {}, torch.get_num_threads())
    except Exception as error:
        raise GateError(f"the network fails on its example inputs: {type(error).__name__}: {error}") from error
    names = [spec.name for spec in network.signature.outputs]
    if len(results) != len(names):
        raise GateError(f"the network gives {len(results)} tensors, its signature has {len(names)}: {', '.join(names)}")
    outputs = dict(zip(names, results, strict=True))
    broken = [name for name, value in outputs.items() if not np.isfinite(value).all()]
    if broken:
        raise GateError(f"the network gives NaN or infinity in {', '.join(broken)} on its example inputs")
    specs = tuple(TensorSpec(name, str(value.dtype), tuple(value.shape)) for name, value in outputs.items())
    return Signature(network.signature.inputs, specs)


def _same(wanted: Signature, found: Signature, integer_io: bool) -> bool:
    """Equal names and shapes, and equal types unless integers may stand for reals."""

    def key(spec: TensorSpec) -> tuple[Any, ...]:
        shape = tuple(d if isinstance(d, int) else "?" for d in spec.shape)
        return (spec.name, shape) if integer_io else (spec.name, spec.dtype, shape)

    return [*map(key, wanted.inputs), 0, *map(key, wanted.outputs)] == [
        *map(key, found.inputs),
        0,
        *map(key, found.outputs),
    ]


def _show(signature: Signature) -> str:
    return f"({', '.join(map(str, signature.inputs))}) -> ({', '.join(map(str, signature.outputs))})"


def with_params(step: Step, **params: Any) -> Step:
    """``step`` with more parameters."""
    merged: Mapping[str, Any] = {**step.params, **params}
    return replace(step, params=merged)
