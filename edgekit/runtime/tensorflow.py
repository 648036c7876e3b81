"""TensorFlow: SavedModel folders, and TFLite files on its own interpreter, which may know Flex operators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from edgekit.errors import ModelError, UnsupportedError, UsageError
from edgekit.runtime.base import Runner
from edgekit.runtime.litert import InterpreterRunner
from edgekit.runtime.native_stderr import filter_stderr
from edgekit.runtime.ports import Port, natural, unnamed
from edgekit.types import Array, Artifact, Format, TensorSpec

SERVING = "serving_default"
"""The signature that Keras and TensorFlow give a SavedModel of one function."""


class TensorflowRunner(Runner):
    """A SavedModel folder or a TFLite file on TensorFlow: making one gives the class that the format needs."""

    name = "tensorflow"
    formats: ClassVar[tuple[Format, ...]] = (Format.SAVED_MODEL, Format.TFLITE)
    package = "tensorflow-cpu"
    also = ("tensorflow",)
    module = "tensorflow"
    extra = "tensorflow"

    def __new__(cls, artifact: Artifact, **options: Any) -> Self:
        kind: Any = cls
        if cls is TensorflowRunner:
            kind = SavedModelRunner if artifact.format is Format.SAVED_MODEL else FlexRunner
        made: Self = super().__new__(kind)
        return made

    @property
    def version(self) -> str:
        return str(self._library.__version__)

    def _import(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else its start prints a page
        with filter_stderr():
            super()._import()


class FlexRunner(TensorflowRunner, InterpreterRunner):
    """A TFLite file on ``tf.lite.Interpreter``. Releases up to 2.19 bring Flex operators, later ones do not
    (google-ai-edge/LiteRT#6458); a file that needs them is then refused when it is opened."""

    @property
    def _interpreter_class(self) -> Any:
        return self._library.lite.Interpreter


class SavedModelRunner(TensorflowRunner):
    """A SavedModel folder, by its ``serving_default`` signature or its only one.

    Variables that the signature writes (a state, a counter) are put back before each run, unless ``stateful``.
    """

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        self._use_threads()
        path = self.artifact.path
        try:
            with filter_stderr():
                self._model = self._library.saved_model.load(str(path))
        except Exception as error:  # TensorFlow raises what its parts raise: OSError, KeyError, its own classes
            raise ModelError(
                f"{path}: tensorflow {self.version} does not accept it: {_line(error)}; save it again"
            ) from error
        self._function = self._signature()
        positional, keywords = self._function.structured_input_signature
        outputs = self._function.structured_outputs
        if positional or not isinstance(outputs, dict):
            raise UnsupportedError(f"{path}: its signature does not go by names; save it with a signature of its own")
        alone = all(spec.shape.rank and spec.shape[0] is None for spec in keywords.values())  # one batch for all
        inputs = [self._port(name, keywords[name], alone) for name in sorted(keywords, key=natural)]
        return inputs, [self._port(name, outputs[name], alone) for name in sorted(outputs, key=natural)]

    def _use_threads(self) -> None:
        threading = self._library.config.threading
        try:
            threading.set_intra_op_parallelism_threads(self.threads)
            threading.set_inter_op_parallelism_threads(1)
            self._library.config.set_visible_devices([], "GPU")  # the device is a CPU
        except RuntimeError as error:
            if threading.get_intra_op_parallelism_threads() != self.threads:
                raise UsageError(
                    f"tensorflow runs with {threading.get_intra_op_parallelism_threads()} threads in this process and "
                    f"cannot be given {self.threads} any more; open the model with isolated=True"
                ) from error

    def _signature(self) -> Any:
        known = dict(self._model.signatures)
        if SERVING in known:
            return known[SERVING]
        if len(known) == 1:
            return next(iter(known.values()))
        there = ", ".join(map(str, known)) or "none"
        raise UnsupportedError(
            f"{self.artifact.path}: edgekit runs the signature {SERVING!r}; the folder has: {there}. Save it with "
            "tf.saved_model.save(model, folder, signatures=function), or model.export(folder) of Keras"
        )

    def _port(self, name: str, spec: Any, alone: bool) -> Port:
        if spec.shape.rank is None:
            raise UnsupportedError(f"{self.artifact.path}: the rank of {name!r} is open; save it with a known rank")
        dtype = np.dtype(spec.dtype.as_numpy_dtype)
        if dtype.kind not in "biuf" or not hasattr(np, dtype.name):
            raise UnsupportedError(
                f"{self.artifact.path}: {name!r} holds {spec.dtype.name}; edgekit runs tensors of numbers only"
            )
        shape = tuple(
            int(size) if size is not None else unnamed(name, axis, alone) for axis, size in enumerate(spec.shape)
        )
        return Port(TensorSpec(name, dtype.name, shape), name)

    def _ready(self) -> None:
        self._in = [str(port.key) for port in self._inputs]
        self._out = [str(port.key) for port in self._outputs]
        variables = self._function.variables if _writes(self._function) else ()
        self._start = [(variable, variable.numpy()) for variable in variables]

    def _call(self, arrays: list[Array]) -> list[Array]:
        if self._start and not self.stateful:
            self.reset()
        tensor = self._library.constant
        results = self._function(**{name: tensor(array) for name, array in zip(self._in, arrays, strict=True)})
        return [np.array(results[name]) for name in self._out]

    def reset(self) -> None:
        for variable, value in self._start:
            variable.assign(value)

    def close(self) -> None:
        self._function = self._model = None
        self._start = []


def _writes(function: Any) -> bool:
    """Whether a signature, or a function it calls, assigns to a variable."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return any(node.op.startswith("Assign") and node.op.endswith("VariableOp") for node in nodes)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
