"""``--runtime reference``: ONNX in the slow, exact evaluator of the onnx package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.errors import ModelError
from edgekit.runtime.base import Runner
from edgekit.runtime.ports import Port
from edgekit.types import Array, Format, TensorSpec


class ReferenceRunner(Runner):
    """A runner only runs: checks of the feed, names and times are the base class's."""

    name = "reference"
    formats = (Format.ONNX,)
    package = "onnx"
    extra = "host"

    def _import(self) -> None:
        try:
            import onnx.reference
        except ImportError as error:
            raise self._missing(str(self.artifact.path), error) from error
        self._library = onnx

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        try:
            self._model = self._library.load(str(self.artifact.path))
            self._evaluator = self._library.reference.ReferenceEvaluator(self._model)
        except Exception as error:
            raise ModelError(f"{self.artifact.path}: {error}") from error
        graph = self._model.graph
        return [self._port(one) for one in graph.input], [self._port(one) for one in graph.output]

    def _port(self, value: object) -> Port:
        kind = value.type.tensor_type  # type: ignore[attr-defined]  # onnx's protobuf classes have no types
        dtype = self._library.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = tuple(d.dim_param or d.dim_value for d in kind.shape.dim)
        return Port(TensorSpec(value.name, str(dtype), shape), value.name)  # type: ignore[attr-defined]

    def _call(self, arrays: list[Array]) -> list[Array]:
        feed = {str(port.key): array for port, array in zip(self._inputs, arrays, strict=True)}
        return [np.asarray(one) for one in self._evaluator.run(None, feed)]
