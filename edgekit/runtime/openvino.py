"""ONNX and TFLite files on OpenVINO: ``openvino`` on the CPU in float32, ``openvino:bf16``, ``openvino:gpu:f16``, ….

By itself OpenVINO computes in bfloat16 where the CPU has it, in float16 on a GPU, and gives fewer threads than were
asked for without a word. Here device, precision and threads are named, and looked up in what was compiled.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from edgekit.artifact import onnx_parts
from edgekit.environments import OPENVINO
from edgekit.errors import DeviceError, FeedError, ModelError, UnsupportedError, UsageError
from edgekit.flatbuffer_reader import keeps_variables
from edgekit.results.loaded import Delegation
from edgekit.runtime.base import Runner
from edgekit.runtime.declared import Declared, declared
from edgekit.runtime.native_stderr import filter_stderr
from edgekit.runtime.ports import Port
from edgekit.types import Array, Dim, Format, TensorSpec

PRECISIONS: Final = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
"""What a variant ends with -> what OpenVINO calls it among the capabilities of a device."""
_DEVICES: Final = {"": ("f32", "bf16", "f16"), "auto": ("", "bf16", "f16"), "gpu": ("", "f16"), "npu": ("f16",)}
"""What a variant begins with -> the precisions it goes on with. An NPU computes in float16, and its name says so."""
VARIANTS: Final = tuple(
    ":".join(part for part in (device, precision) if part)
    for device, precisions in _DEVICES.items()
    for precision in precisions
)
_NO_OPERATORS: Final = ("Input", "Output", "Const")
_REASONS: Final = (
    (
        r"No conversion rule found for operations: ([^\n]+)|No translator found for (\S+) node",
        "OpenVINO {version} does not have the operators {what}; run it with --runtime {other}",
    ),
    (
        r"Could not open the file|could not be parsed|Unable to read the model|[Pp]rotobuf",
        "it is damaged; copy it again",
    ),
)


def split(variant: str) -> tuple[str, str]:
    """``gpu:f16`` as OpenVINO's device and the precision: ``GPU``, ``f16``. The empty variant is ``CPU`` in ``f32``."""
    parts = variant.split(":") if variant else []
    precision = parts.pop() if parts and parts[-1] in PRECISIONS else "f32"
    return (parts[0] if parts else "cpu").upper(), precision


class OpenVinoRunner(Runner):
    """ONNX and TFLite on OpenVINO, in the precision that is named; float32 where none is.

    Attributes:
        precision: ``f32``, ``bf16`` or ``f16``.
        compiled: OpenVINO's ``CompiledModel``.
    """

    name = "openvino"
    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    package = module = "openvino"
    environment = OPENVINO
    variants = VARIANTS
    beside = ("bf16",)
    compiled_apart = True

    @classmethod
    def check_request(cls, variant: str, device: str, threads: int) -> None:
        super().check_request(variant, device, threads)
        if threads > 1 and split(variant)[0] in ("GPU", "NPU"):
            raise UsageError(f"openvino:{variant} runs on an accelerator, which has no threads; leave --threads out")

    @property
    def version(self) -> str:
        """``2026.4.1`` of ``2026.4.1-22982-e213a147257-releases/2026/4``."""
        return str(self._library.__version__).partition("-")[0]

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        self._place, self.precision = split(self.variant)
        if self.artifact.format is Format.ONNX:
            onnx_parts(self.artifact.path)  # weights outside its folder are refused
        elif keeps_variables(self.artifact.path.read_bytes()):
            raise UnsupportedError(
                f"{self.artifact.path} keeps a state in variables, which OpenVINO {self.version} does not read from "
                "TFLite; run it with --runtime litert, or export the network to .onnx"
            )
        inputs, outputs = declared(self.artifact)
        self._core = self._library.Core()
        self._require_device()
        self.compiled = self._compile()
        self._require_honoured()
        self._request = self.compiled.create_infer_request()
        return self._ports(inputs, self.compiled.inputs), self._ports(outputs, self.compiled.outputs)

    def _require_device(self) -> None:
        """Raises where OpenVINO has no such device, or the device does not compute in such numbers."""
        there = list(self._core.available_devices)
        kinds = {name.partition(".")[0] for name in there}
        if self._place not in (*kinds, "AUTO"):
            raise DeviceError(
                f"{self.artifact.path} was to run on OpenVINO's {self._place}, which it does not find here"
                f"{self._why_absent()}; there are: {', '.join(there)}"
            )
        places = ["CPU"] if self._place == "AUTO" and "CPU" in kinds else [self._place]
        able = {str(one) for place in places for one in self._core.get_property(place, "OPTIMIZATION_CAPABILITIES")}
        if self.precision != "f32" and PRECISIONS[self.precision] not in able:
            known = ", ".join(name for name, word in PRECISIONS.items() if word in able)
            raise UnsupportedError(
                f"{self.artifact.path} was to run in {self.precision}, and {self.chip_name(places[0])} computes in "
                f"{known}; OpenVINO would take one of these without a word"
            )

    def _why_absent(self) -> str:
        """What OpenVINO says of a device that it cannot start, its most telling line."""
        try:
            self._core.get_property(self._place, "FULL_DEVICE_NAME")
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines()]
            told = [line for line in lines if line and not line.startswith("Exception from")]
            return f" ({re.sub(r'/[^ ]*/', '', told[-1])[:200]})" if told else ""
        return ""

    def chip_name(self, place: str) -> str:
        """The name of a device, as OpenVINO gives it."""
        return str(self._core.get_property(place, "FULL_DEVICE_NAME"))

    def _settings(self) -> dict[str, Any]:
        """What the model is compiled with: no fewer bits and no fewer threads than were named."""
        own: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision}
        if self._place in ("CPU", "AUTO"):
            # activations of files with compressed weights stay as they are; threads are not tied to cores, on which
            # two processes would then meet
            own |= {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
            own["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        if self._place == "AUTO":
            own = {"DEVICE_PROPERTIES": {"CPU": own}, "INFERENCE_PRECISION_HINT": self.precision}
        return {"PERFORMANCE_HINT": "LATENCY", **own}

    def _compile(self) -> Any:
        path, before = self.artifact.path, self.compiled_before
        try:
            with filter_stderr():  # its front ends try every format, and TensorFlow's complains of each
                if before:
                    content = io.BytesIO(Path(before).read_bytes())
                    return self._core.import_model(content, self._place, self._settings())
                return self._core.compile_model(str(path), self._place, self._settings())
        except Exception as error:
            if before:
                raise ModelError(
                    f"{before} is not what OpenVINO {self.version} compiled of {path} "
                    f"({str(error).splitlines()[-1]}); compile it again, or leave it out"
                ) from error
            raise ModelError(f"{path}: {self._reason(str(error))}") from error

    def _reason(self, text: str) -> str:
        other = "onnxruntime" if self.artifact.format is Format.ONNX else "litert"
        for pattern, words in _REASONS:
            found = re.search(pattern, text)
            if found:
                what = next((group for group in found.groups() if group), "")
                what = re.sub(r"-\d+\b", "", " ".join(what.split()))  # Frobnicate-18: of which opset
                return words.format(version=self.version, what=what, other=other)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(("Exception from", "FrontEnd API failed", "Check '"))]
        return (
            f"OpenVINO {self.version} does not accept it: {' '.join(told or lines)[:300]}; "
            f"run it with --runtime {other}"
        )

    def _require_honoured(self) -> None:
        """Raises UnsupportedError where other threads or another precision were compiled than were asked for."""
        if self._place == "AUTO":
            settings = self.compiled.get_property("DEVICE_PROPERTIES").get("CPU")
        else:
            names = "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT"
            settings = {name: self.compiled.get_property(name) for name in names} if self._place == "CPU" else None
        if settings is None:  # an accelerator
            return
        given = int(settings["INFERENCE_NUM_THREADS"])
        if given != self.threads:
            raise UnsupportedError(
                f"{self.threads} threads were asked for, and OpenVINO gives {given} here, at most one for each core "
                f"this process may use; give --threads {given}"
            )
        computed = str(settings["INFERENCE_PRECISION_HINT"].to_string())
        if computed != self.precision:
            raise UnsupportedError(
                f"{self.artifact.path} was to run in {self.precision}, and OpenVINO compiled it in {computed}"
            )

    def _ports(self, rows: Sequence[Declared], there: Sequence[Any]) -> list[Port]:
        """The file's inputs or outputs; the key is OpenVINO's number of each.

        Raises:
            ModelError: OpenVINO made others of them.
        """
        if len(rows) != len(there):
            raise ModelError(
                f"{self.artifact.path}: OpenVINO {self.version} makes {len(there)} inputs or outputs of its {len(rows)}"
            )
        called = [set(port.names) for port in there]
        return [self._port(row, there, called) for row in rows]

    def _port(self, row: Declared, there: Sequence[Any], called: Sequence[set[str]]) -> Port:
        named = [k for k, names in enumerate(called) if row.tensor in names]
        index = named[0] if len(named) == 1 else int(row.port.key)
        spec, found = row.port.spec, there[index]
        dtype = np.dtype(found.element_type.to_dtype()).name
        rank = found.partial_shape.rank
        if dtype != spec.dtype or (row.ranked and rank.is_static and rank.get_length() != len(spec.shape)):
            raise ModelError(
                f"{self.artifact.path}: OpenVINO {self.version} makes {dtype} {found.partial_shape} of {spec}; "
                "run it with another runtime"
            )
        shape = spec.shape if row.ranked else self._inferred(found, spec.name)
        return Port(TensorSpec(spec.name, spec.dtype, shape), index, row.port.quantization)

    def _inferred(self, port: Any, name: str) -> tuple[Dim, ...]:
        """The shape of an output that the file declares without one."""
        if not port.partial_shape.rank.is_static:
            raise UnsupportedError(f"{self.artifact.path}: nobody says how many axes {name!r} has; export it again")
        return tuple(
            size.get_length() if size.is_static else f"{name}_{axis}" for axis, size in enumerate(port.partial_shape)
        )

    def _ready(self) -> None:
        self._in = [int(port.key) for port in self._inputs]
        self._out = [int(port.key) for port in self._outputs]
        self._states = list(self._request.query_state())
        self._wide = [k for k, port in enumerate(self._inputs) if port.spec.dtype in ("int64", "uint64")]
        self._shapes: list[tuple[int, ...]] = []

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        """Buffers of these shapes, which OpenVINO reads from; they are kept from run to run."""
        if shapes == self._shapes:
            return
        self._shapes = []  # unknown, should OpenVINO refuse
        tensors = [
            self._library.Tensor(self.compiled.inputs[place].element_type, self._library.Shape(list(shape)))
            for place, shape in zip(self._in, shapes, strict=True)
        ]
        for place, tensor in zip(self._in, tensors, strict=True):
            self._request.set_input_tensor(place, tensor)
        self._held = tensors
        self._views = [tensor.data for tensor in tensors]
        self._shapes = shapes

    def _call(self, arrays: list[Array]) -> list[Array]:
        self._copy_in(arrays)
        self._request.infer(share_outputs=True)
        return self._copy_out([])

    def _copy_in(self, arrays: list[Array]) -> None:
        if self._states and not self.stateful:
            self.reset()
        for k in self._wide:
            self._require_narrow(k, arrays[k])
        for view, array in zip(self._views, arrays, strict=True):
            view[...] = array

    def _require_narrow(self, k: int, array: Array) -> None:
        """Raises FeedError for integers that OpenVINO, which computes them in 32 bits, would make others of."""
        least, most = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        if array.size and (array.max() > most or array.min() < least):
            raise FeedError(
                f"input {self._inputs[k].spec.name!r} of {self.artifact.path.name}: got integers from {array.min()} to "
                f"{array.max()}, and OpenVINO computes those of 64 bits in 32 ({least} to {most}); run it with another "
                "runtime"
            )

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        self._request.infer(share_outputs=True)
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        tensor = self._request.get_output_tensor
        return [tensor(place).data.copy() for place in self._out]

    @property
    def chip(self) -> str | None:
        return self.chip_name(self._place) if self._place in ("GPU", "NPU") else None

    def reset(self) -> None:
        for state in self._states:
            state.reset()

    def delegation(self) -> Delegation:
        """The operators of the compiled graph, the devices that run them, and how many are computed in what."""
        devices = [str(one).strip("()") for one in self.compiled.get_property("EXECUTION_DEVICES")]
        facts = [node.get_rt_info() for node in self.compiled.get_runtime_model().get_ops()]
        rows = [fact for fact in facts if fact["layerType"].astype(str) not in _NO_OPERATORS]
        precisions = Counter(fact["runtimePrecision"].astype(str) for fact in rows)
        by = f"OpenVINO {' and '.join(devices)}"
        return Delegation(len(rows), len(rows), by, precisions=dict(precisions.most_common()))

    def save_compiled(self, target: str) -> None:
        """What OpenVINO compiled, weights included, as a file for this version and device; threads and precision are
        those that it is opened with."""
        try:
            content = self.compiled.export_model()
        except Exception as error:
            raise UnsupportedError(f"OpenVINO's {self._place} does not give out what it compiled: {error}") from error
        Path(target).write_bytes(content.getvalue() if isinstance(content, io.BytesIO) else content)

    def close(self) -> None:
        self._held, self._views, self._states = [], [], []
        self._request = self.compiled = self._core = None
