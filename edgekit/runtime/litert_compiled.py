"""TFLite files on LiteRT's compiled-model interface: ``litert:cpu``, ``litert:gpu`` and ``litert:npu``.

The accelerator is asked for alone, without the CPU beside it: LiteRT then refuses a file that it does not take whole,
where it would otherwise leave the rest to the CPU unsaid. ``litert`` without a variant stays the Interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.errors import DeviceError, EdgekitError, ModelError, UnsupportedError
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.results.loaded import Delegation
from edgekit.runtime.base import Runner
from edgekit.runtime.cpu import require_instructions
from edgekit.runtime.litert import LiteRtRunner, ports_of
from edgekit.runtime.native_stderr import capture_stderr, filter_stderr
from edgekit.runtime.ports import Port
from edgekit.types import Array, Format

_KEEPS_STATE = ops.names(Format.TFLITE, Family.VARIABLE)
_ABSENT = {
    "gpu": (
        r"Couldn't load \w+: .*",
        r"Failed to initialize \w+ environment.*",
        r".*accelerator could not be loaded.*GPU.*",
    ),
    "npu": (
        r"Could not load shared library.*",
        r"No compiler plugin found.*",
        r"NPU accelerator could not be loaded.*",
    ),
}
"""Words of LiteRT for an accelerator that is not there, the most telling first: its driver, its maker's library."""
_FORCE_FP16 = 4
"""TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 of TensorFlow's xnnpack_delegate.h."""
_FLOAT16 = {"aarch64": ("fphp", "asimdhp"), "x86_64": ("avx512_fp16",)}
"""What XNNPACK computes in float16 with; with less it stores float16 and computes in float32, or refuses."""
_NOT_WHOLE = "Some ops are not accelerated"
_GET = {
    "gpu": "a GPU with its driver (Linux: libvulkan.so.1 and an ICD of the GPU's maker)",
    "npu": "an NPU and its maker's library (LiteRT has plugins for Intel, Qualcomm, MediaTek and others, each of which "
    "loads the maker's own)",
}


class CompiledModelRunner(Runner):
    """TFLite on ``ai_edge_litert.compiled_model.CompiledModel``. Float32 is computed in float32, unless ``gpu:fp16``
    (LiteRT's own default on a GPU) or ``cpu:fp16`` was asked for."""

    name = "litert"
    formats: ClassVar[tuple[Format, ...]] = (Format.TFLITE,)
    package = "ai-edge-litert"
    module = "ai_edge_litert.compiled_model"
    extra = "litert"
    variants = LiteRtRunner.variants

    def _import(self) -> None:
        if self.variant == "cpu:fp16":
            require_instructions(self.name, _FLOAT16)
        super()._import()
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter_class: Any = Interpreter

    @property
    def accelerator(self) -> str:
        """``cpu``, ``gpu`` or ``npu``."""
        return self.variant.partition(":")[0]

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        inputs, outputs = self._read()
        with filter_stderr():
            place = str(Path(self._library.__file__).parent)  # where its accelerators lie
            self._environment = self._library.Environment.create(runtime_path=place)
        self._model, refusal = self._compiled()
        if refusal is not None:
            self._leave()
            raise refusal
        self._place(inputs, outputs)
        return inputs, outputs

    def _compiled(self) -> tuple[Any, EdgekitError | None]:
        """The model, or why it cannot be compiled."""
        said: list[bytes] = []
        try:
            with capture_stderr() as said:
                given = {"environment": self._environment, "options": self._options()}
                model = self._library.CompiledModel.from_file(str(self.artifact.path), **given)
                for key in model.get_signature_list():
                    model.get_output_tensor_details(key)  # lays the tensors out, which can fail, too
                return model, None
        except (RuntimeError, ValueError) as error:
            return None, self._refusal(str(error), b"".join(said).decode("utf-8", "replace"))

    def _read(self) -> tuple[list[Port], list[Port]]:
        """What the file's inputs and outputs are, quantization and free axes included, which the compiled model does
        not tell: from an Interpreter that lays out nothing.

        Raises:
            UnsupportedError: the file keeps a state from run to run, which a compiled model cannot put back.
        """
        path = str(self.artifact.path)
        try:
            with filter_stderr():
                reader = self._interpreter_class(model_path=path, num_threads=1)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: litert {self.version} does not accept it: {error}; convert it again") from error
        operators = [str(row["op_name"]) for row in reader._get_ops_details()]
        kept = sorted(set(operators) & set(_KEEPS_STATE))
        if kept:
            raise UnsupportedError(
                f"{path} keeps a state in variables ({', '.join(kept)}), which LiteRT's compiled model cannot put back "
                "to its start; run it with --runtime litert"
            )
        self._nodes = len(operators)
        return ports_of(reader, path)

    def _options(self) -> Any:
        library = self._library
        wanted = library.HardwareAccelerator[self.accelerator.upper()]
        flags = _FORCE_FP16 if self.variant == "cpu:fp16" else None
        cpu = library.CpuOptions(num_threads=self.threads, xnnpack_flags=flags)
        options = library.Options(hardware_accelerators=wanted, cpu_options=cpu)
        if self.accelerator == "gpu":
            options.gpu_options.enforce_f32 = self.variant != "gpu:fp16"
        return options

    def _refusal(self, error: str, said: str) -> EdgekitError:
        """What a failed compilation means, in LiteRT's own words: no accelerator, or a file that it does not take."""
        path, runtime = self.artifact.path, f"{self.name} {self.version}"
        lines = [*said.splitlines(), *error.splitlines()]
        whole = " ".join(line for line in lines if re.match(r"E\d{4}|ERROR|└", line))
        for pattern in _ABSENT.get(self.accelerator, ()):
            found = re.search(pattern, "\n".join(lines))
            if found:
                told = f"{path} was to run on {runtime}, which cannot: {found[0].rstrip('.')}"
                return DeviceError(f"{told}; it needs {_GET[self.accelerator]}")
        if _NOT_WHOLE in whole:
            return UnsupportedError(
                f"{path}: the {self.accelerator} of {runtime} does not take every operator, and nothing is left to the "
                "CPU unsaid; run it with --runtime litert"
            )
        if "Variable tensors" in whole:
            return UnsupportedError(
                f"{path} keeps a state in variable tensors, which {runtime} does not support; "
                "run it with --runtime litert"
            )
        told = " ".join(whole.split())[:300]
        return ModelError(f"{path}: {runtime} does not accept it: {told}; run it with --runtime litert")

    def _place(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """Finds the signature of the main graph, and the place of each of its inputs and outputs there."""
        wanted = {port.spec.name for port in inputs}, {port.spec.name for port in outputs}
        for index in range(self._model.get_num_signatures()):
            found = self._model.get_signature_by_index(index)
            if (set(found["inputs"]), set(found["outputs"])) == wanted:
                self._signature_index, self._signature_key = index, str(found["key"])
                self._places = list(found["inputs"]), list(found["outputs"])
                return
        raise ModelError(f"{self.artifact.path}: {self.name} finds no signature of its main graph; convert it again")

    def _ready(self) -> None:
        self._in = [self._places[0].index(self._spelled(port)) for port in self._inputs]
        self._out = [self._places[1].index(self._spelled(port)) for port in self._outputs]
        self._dtypes = [np.dtype(port.spec.dtype) for port in self._outputs]
        details = self._model.get_input_tensor_details(self._signature_key)
        self._shapes = [tuple(details[self._spelled(port)]["shape"]) for port in self._inputs]
        self._lay_out()

    def _spelled(self, port: Port) -> str:
        """The file's own name of a port, which the card may have renamed."""
        return self._own_names[int(port.key)]

    def _named(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[list[Port], list[Port]]:
        self._own_names = {int(port.key): port.spec.name for port in (*inputs, *outputs)}
        return super()._named(inputs, outputs)

    def _lay_out(self) -> None:
        """Buffers for the shapes that are bound; they are kept from run to run."""
        with filter_stderr():
            self._buffers_in = self._model.create_input_buffers(self._signature_index)
            self._buffers_out = self._model.create_output_buffers(self._signature_index)
            for place, shape, port in zip(self._in, self._shapes, self._inputs, strict=True):
                self._buffers_in[place].write(np.zeros(shape, port.spec.dtype))  # the first write opens an environment
        details = self._model.get_output_tensor_details(self._signature_key)
        self._made = [tuple(details[self._spelled(port)]["shape"]) for port in self._outputs]

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = []  # unknown, should the runtime refuse
        for place, shape in zip(self._in, shapes, strict=True):
            self._model.resize_input_tensor(place, shape, self._signature_index)
        self._shapes = shapes
        self._lay_out()

    def _call(self, arrays: list[Array]) -> list[Array]:
        self._copy_in(arrays)
        return self._copy_out(self._run_staged(arrays))

    def _copy_in(self, arrays: list[Array]) -> None:
        for place, array in zip(self._in, arrays, strict=True):
            self._buffers_in[place].write(array)

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        self._model.run_by_index(self._signature_index, self._buffers_in, self._buffers_out)
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        return [
            self._buffers_out[place].read(int(np.prod(shape)), dtype).reshape(shape)
            for place, shape, dtype in zip(self._out, self._made, self._dtypes, strict=True)
        ]

    def delegation(self) -> Delegation | None:
        """Every operator, where LiteRT says that all are accelerated; None otherwise, since it does not say which."""
        if not self._model.is_fully_accelerated():
            return None
        by = {"cpu": "XNNPACK", "gpu": "LiteRT GPU", "npu": "LiteRT NPU"}[self.accelerator]
        return Delegation(self._nodes, self._nodes, by)

    def save_compiled(self, target: str) -> None:
        raise UnsupportedError(f"{self.name} keeps nothing that it has compiled")

    def close(self) -> None:
        self._buffers_in = self._buffers_out = []
        if self._model is not None:
            self._model.close()
        self._model = None
        self._leave()

    def _leave(self) -> None:
        with filter_stderr():  # it tells of every accelerator that it lets go
            self._environment.close()
