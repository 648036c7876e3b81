"""ONNX files on onnxruntime: its CPU provider, or another one by name (:mod:`.providers`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from edgekit.artifact import onnx_parts
from edgekit.errors import ModelError, UnsupportedError
from edgekit.protobuf_reader import PLACEHOLDERS
from edgekit.results.loaded import Delegation, Operator
from edgekit.runtime import providers
from edgekit.runtime.base import Runner
from edgekit.runtime.cpu import require_instructions
from edgekit.runtime.cuda_driver import gpu_name
from edgekit.runtime.native_stderr import capture_stderr
from edgekit.runtime.ports import Port, unnamed
from edgekit.types import Array, Artifact, Dim, Format, TensorSpec

_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_ASSIGNMENT = "get_provider_graph_assignment_info"
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_FAST_MATH = "mlas.enable_gemm_fastmath_arm64_bfloat16"
_IN_BFLOAT16 = ("MatMul", "FusedMatMul")
_BFLOAT16 = {"aarch64": ("bf16",)}
"""What onnxruntime needs for that; elsewhere it goes on in float32 and says nothing."""
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_REASONS = (
    (
        r"(?:No Op registered for (?=\S)|Fatal error: (?=\S+\(.*not a registered function))([^\s(]+)",
        "the operator {0} is unknown to {runtime}; export without it, or update onnxruntime",
    ),
    (
        r"No opset import for domain '([^']*)'",
        "an operator of the domain {0!r} is unknown to {runtime}; export without it, or with standard operators only",
    ),
    (
        r"[Oo]pset (\d+) is under development.*till opset (\d+)",
        "it has opset {0}, {runtime} knows up to {1}; export with --opset {1} or lower, or update onnxruntime",
    ),
    (
        r"IR version: (\d+), max supported IR version: (\d+)",
        "it has IR version {0}, {runtime} knows up to {1}; export it again here, or update onnxruntime",
    ),
    (
        r"Node input '([^']*)' is not a graph input, initializer",
        "the tensor {0!r} (weights, or a node's result) is missing from it; export it again",
    ),
    (r"Could not find an implementation for (\S+)", "{runtime} has no kernel for {0} in this dtype; export in float32"),
    (r"Protobuf parsing failed", "it is cut short or damaged; copy or export it again"),
)


class Binding:
    """A session bound to buffers on ``device`` (onnxruntime's word: ``cuda``, ``cpu``): copies are steps of their own.

    Outputs are laid out by onnxruntime on the device in the first run, and written there again by the next ones, until
    an input has another shape. An output whose shape follows from the values (``NonZero``) ends in onnxruntime's error.
    """

    def __init__(self, library: Any, session: Any, outputs: Sequence[str], device: str, index: int = 0) -> None:
        self._library, self._session = library, session
        self._place = device, index
        self._binding = session.io_binding()
        self._held: dict[str, Any] = {}
        self._outputs = list(outputs)
        self._bind_outputs()

    def copy_in(self, names: Sequence[str], arrays: Sequence[Array]) -> None:
        """Host to device; a buffer is kept while the shape stays."""
        for name, array in zip(names, arrays, strict=True):
            held = self._held.get(name)
            if held is not None and tuple(held.shape()) == array.shape:
                held.update_inplace(array)
                continue
            value = self._library.OrtValue.ortvalue_from_numpy(array, *self._place)
            self._binding.bind_ortvalue_input(name, value)
            self._held[name] = value
            self._bind_outputs()

    def _bind_outputs(self) -> None:
        """Has onnxruntime lay them out anew: what it has laid out holds one shape."""
        self._binding.clear_binding_outputs()
        for name in self._outputs:
            self._binding.bind_output(name, *self._place)

    def run(self) -> None:
        """One run on the buffers, to its end."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def copy_out(self) -> list[Array]:
        """Device to host: new arrays, in the order of ``outputs``."""
        return [value.numpy().copy() for value in self._binding.get_outputs()]

    @property
    def bytes(self) -> tuple[int, int]:
        """Of all inputs, of the outputs of the last run."""
        made = [value.numpy().nbytes for value in self._binding.get_outputs() if value.has_value()]
        return sum(value.numpy().nbytes for value in self._held.values()), sum(made)


class OnnxRuntimeRunner(Runner):
    """ONNX on onnxruntime: on the CPU, or with a variant on another execution provider, never on both unsaid.

    ``bf16`` is the CPU as well: products of matrices in bfloat16 where an ARM CPU has instructions for them.
    """

    name = "onnxruntime"
    formats = (Format.ONNX,)
    package = module = "onnxruntime"
    also = ("onnxruntime-gpu", "onnxruntime-openvino")
    extra = "onnx"
    variants = (*providers.PROVIDERS, "bf16")
    on_cuda = providers.ON_CUDA

    @property
    def _provider(self) -> str:
        """The execution provider of the variant, empty for the CPU's own."""
        return "" if self.variant == "bf16" else self.variant

    def _import(self) -> None:
        super()._import()
        if self.variant == "bf16":
            require_instructions(self.name, _BFLOAT16)
        if self._provider:
            providers.require_built(self._provider, self._library, str(self.artifact.path))

    @property
    def version(self) -> str:
        """Of the library itself: the wheels with other providers are other distributions."""
        return str(self._library.__version__)

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        refuse_foreign_data(self.artifact)
        options = self.options()
        options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
        self._session = self.session(options)
        self._require_taken()
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        alone = len(inputs) == 1
        return [self._port(node, alone) for node in inputs], [self._port(node, alone) for node in outputs]

    def options(self) -> Any:
        """Options of a session as this runner starts it."""
        options = self._library.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal only: everything else arrives as an exception, and is said once
        if self.variant == "bf16":
            options.add_session_config_entry(_FAST_MATH, "1")
        if self._provider and not hasattr(self._library.InferenceSession, _ASSIGNMENT):
            options.add_session_config_entry(_NO_FALLBACK, "1")  # nobody could tell what the CPU took
        return options

    def session(self, options: Any) -> Any:
        """A session of the file on this runner's provider.

        Raises:
            ModelError: onnxruntime does not accept the file.
            DeviceError: the provider did not start.
        """
        path, make = str(self.artifact.path), self._library.InferenceSession
        if not self._provider:
            try:
                return make(path, options, providers=[providers.CPU])
            except Exception as error:
                raise ModelError(f"{path}: {self._reason(str(error))}") from error
        said: list[bytes] = []
        try:
            with capture_stderr() as said:
                rows = providers.prepare(
                    self._provider, self._library, options, threads=self.threads, index=self._gpu_index
                )
                session = make(path, options, enable_fallback=0, **rows)
        except Exception as error:
            if any(re.search(pattern, str(error), re.DOTALL) for pattern, _ in _REASONS):
                raise ModelError(f"{path}: {self._reason(str(error))}") from error
            raise providers.not_started(self._provider, path, _told(said) or str(error)) from error
        providers.require_started(self._provider, session, path, _told(said))
        return session

    def _require_taken(self) -> None:
        """Raises UnsupportedError where the provider runs nothing: its name would stand for the CPU's work."""
        found = self.delegation() if self.variant else None
        if found is not None and found.delegated == 0:
            raise UnsupportedError(
                f"{self.artifact.path}: onnxruntime's {found.by} takes none of its {found.nodes} operators and would "
                "leave all to the CPU; run it with --runtime onnxruntime"
            )

    def _ready(self) -> None:
        self._keys = [str(port.key) for port in self._inputs]
        self._results = [str(port.key) for port in self._outputs]
        self._run = self._session.run
        self._binding: Binding | None = None
        if self.resident:
            self._bind_to("cuda", self._gpu_index)

    @property
    def resident(self) -> bool:
        return self._provider in providers.ON_CUDA

    @property
    def chip(self) -> str | None:
        return gpu_name(self._gpu_index) if self.resident else None

    @property
    def _gpu_index(self) -> int:
        return int(self.device.partition(":")[2] or 0)

    def _bind_to(self, device: str, index: int) -> None:
        """From now on inputs and outputs lie in the memory of ``device``."""
        self._binding = Binding(self._library, self._session, self._results, device, index)

    def _copy_in(self, arrays: list[Array]) -> None:
        if self._binding is not None:
            self._binding.copy_in(self._keys, arrays)

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        if self._binding is None:
            return self._call(arrays)
        self._binding.run()
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        return list(made) if self._binding is None else self._binding.copy_out()

    def transfer_bytes(self) -> tuple[int, int] | None:
        return None if self._binding is None else self._binding.bytes

    def _call(self, arrays: list[Array]) -> list[Array]:
        results: list[Array] = self._run(self._results, dict(zip(self._keys, arrays, strict=True)))
        return results

    def _bare(self, arrays: list[Array]) -> Callable[[], object]:
        if self._binding is not None:
            self._binding.copy_in(self._keys, arrays)
            return self._binding.run
        return partial(self._run, self._results, dict(zip(self._keys, arrays, strict=True)))

    def delegation(self) -> Delegation | None:
        """Nodes that the provider asked for runs, of all nodes it was offered; None from onnxruntime before 1.24.

        For ``bf16`` those that may be computed so: products of at least 32 values with weights are.
        """
        tell = getattr(self._session, _ASSIGNMENT, None)
        if tell is None:
            return None
        nodes = [(node, str(group.ep_name)) for group in tell() for node in group.get_nodes()]
        provider = providers.PROVIDERS[self._provider].name if self._provider else providers.CPU
        half = self.variant == "bf16"
        left = tuple(
            Operator(name=str(node.name), type=str(node.op_type), by=by)
            for node, by in nodes
            if by != provider or (half and node.op_type not in _IN_BFLOAT16)
        )
        return Delegation(len(nodes), len(nodes) - len(left), "bfloat16" if half else provider, left)

    def save_compiled(self, target: str) -> None:
        """The graph after all of onnxruntime's rewriting, as an ONNX file for this version on this CPU."""
        if self._provider:
            raise UnsupportedError(f"{self.name} compiles in its provider, which keeps what it made to itself")
        options = self._library.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = target
        self._library.InferenceSession(str(self.artifact.path), options, providers=[providers.CPU])

    def close(self) -> None:
        self._run = self._session = self._binding = None

    def _port(self, node: Any, alone: bool) -> Port:
        kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
        if kind is None or kind[1] not in _DTYPES:
            raise UnsupportedError(
                f"{self.artifact.path}: {node.name!r} is a {node.type}; edgekit runs tensors of numbers only"
            )
        shape: list[Dim] = []
        for axis, dim in enumerate(node.shape):
            if isinstance(dim, int) and dim >= 0:
                shape.append(dim)
            else:
                shape.append(unnamed(node.name, axis, alone) if str(dim or "") in PLACEHOLDERS else str(dim))
        return Port(TensorSpec(node.name, _DTYPES[kind[1]], tuple(shape)), node.name)

    def _reason(self, text: str) -> str:
        runtime = f"onnxruntime {self.version}"
        for pattern, words in _REASONS:
            found = re.search(pattern, text, re.DOTALL)
            if found:
                return words.format(*found.groups(), runtime=runtime)
        told = " ".join(re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed:)?", "", text).split())
        return f"{runtime} does not accept it: {told[:300]}; export it again"


def _told(lines: Sequence[bytes]) -> str:
    """What onnxruntime wrote of errors, without time, place and thread."""
    text = b"".join(lines).decode("utf-8", "replace")
    found = re.findall(r"\[[EF]:[^\]]*\]\s*(?:\S+:\d+ .*?\(\) )?(.*)", text)
    return " ".join(found)


def refuse_foreign_data(artifact: Artifact) -> None:
    """Raises ModelError when weights lie outside the file's own folder, or are not there."""
    onnx_parts(artifact.path)
