"""``--runtime ncnn``: ONNX files on Tencent's ncnn (https://github.com/Tencent/ncnn), which reads a form of its own.

pnnx, ncnn's converter, makes that form when a file is opened. Both would take float16 where nobody asked; here
``ncnn`` computes in float32, and ``ncnn:fp16`` is a variant by which results are named and judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit import children
from edgekit.errors import ModelError, UnsupportedError
from edgekit.leftovers import scratch_folder
from edgekit.runtime.base import Runner
from edgekit.runtime.ports import Port
from edgekit.types import Array, Format, TensorSpec


class NcnnRunner(Runner):
    """One float32 network with fixed sizes and a batch of 1, which is what ncnn runs."""

    name = "ncnn"
    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX,)
    package = module = "ncnn"
    install = "pip install ./examples/ncnn"
    variants = ("fp16",)

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        import onnx

        graph = onnx.load(str(self.artifact.path), load_external_data=False).graph
        held = {tensor.name for tensor in graph.initializer}
        inputs = [self._port(one, onnx) for one in graph.input if one.name not in held]
        outputs = [self._port(one, onnx) for one in graph.output]
        half = self.variant == "fp16"
        self._net = self._library.Net()
        self._net.opt.num_threads = self.threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(self._net.opt, option, half)
        self._net.opt.use_bf16_storage = False
        with scratch_folder() as folder:
            param, weights = self._converted(folder, inputs, half)
            if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
                raise ModelError(f"{self.artifact.path}: ncnn does not take what pnnx made of it; it prints why")
        return inputs, outputs

    def _converted(self, folder: Path, inputs: Sequence[Port], half: bool) -> tuple[Path, Path]:
        """ncnn's two files: the graph, and the weights.

        Raises:
            RuntimeMissingError: there is no pnnx.
        ModelError: it does not convert the file.
        """
        model = folder / "model.onnx"
        model.symlink_to(self.artifact.path.absolute())
        sizes = ",".join(f"[{','.join(map(str, port.spec.shape))}]f32" for port in inputs)
        found = find_spec("pnnx")  # not imported: that would import torch
        if found is None or found.origin is None:
            raise self._missing(str(self.artifact.path), ModuleNotFoundError("pnnx"))
        program = Path(found.origin).parent / "pnnx"
        command = [str(program), str(model), f"inputshape={sizes}", f"fp16={int(half)}"]
        done = children.run(command, cwd=folder)
        made = folder / "model.ncnn.param", folder / "model.ncnn.bin"
        if done.returncode or not all(path.is_file() for path in made):
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            raise ModelError(f"{self.artifact.path}: pnnx does not convert it ({done.returncode}): {said}")
        return made

    def _port(self, value: Any, onnx: Any) -> Port:
        kind = value.type.tensor_type
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = tuple(one.dim_value for one in kind.shape.dim)
        if dtype != "float32" or 0 in shape or not shape or shape[0] != 1:
            raise UnsupportedError(
                f"{self.artifact.path}: {value.name!r} is {dtype} {shape}; ncnn runs float32 with fixed sizes and a "
                "batch of 1 (edgekit export model.onnx --to onnx --shape NAME=1x… fixes them)"
            )
        return Port(TensorSpec(value.name, dtype, shape), value.name)

    def _call(self, arrays: list[Array]) -> list[Array]:
        mat = self._library.Mat
        with self._net.create_extractor() as extractor:
            for k, array in enumerate(arrays):
                extractor.input(f"in{k}", mat(array[0]).clone())
            found = [extractor.extract(f"out{k}") for k in range(len(self._outputs))]
            if any(status for status, _ in found):
                raise RuntimeError(f"ncnn ended with the status {[status for status, _ in found]}")
            return [
                np.array(made).reshape(port.spec.shape) for (_, made), port in zip(found, self._outputs, strict=True)
            ]

    def close(self) -> None:
        self._net.clear()
