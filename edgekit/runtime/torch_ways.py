"""Ways to run a torch program on a device: eager, compiled, as a CUDA graph; in float32 or fewer bits.

A program's inputs and outputs stay where they are on the device (static buffers, which a CUDA graph needs), so that
copies between host and device are steps of their own. What only a GPU can do is in the few lines of :class:`Replayed`
and :func:`synchronizer`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.errors import DeviceError, EdgekitError, RuntimeMissingError, UsageError
from edgekit.types import Array

if TYPE_CHECKING:
    import torch

WAYS: Final = ("eager", "compile", "cudagraph")
PRECISIONS: Final = ("fp16", "bf16", "tf32")
VARIANTS: Final = (*WAYS, *(f"{way}:{precision}" for way in WAYS for precision in PRECISIONS))
_DTYPES: Final = {"fp16": "float16", "bf16": "bfloat16"}
WARM_CALLS: Final = 3
"""Before a capture: libraries choose kernels and take workspaces in the first calls (torch.cuda.graphs, Notes)."""


def require_device(device: str, path: str) -> None:
    """Raises where torch cannot run on ``device`` (``cpu``, ``cuda:N``), each reason told apart.

    Raises:
        RuntimeMissingError: this torch was built without CUDA.
        DeviceError: torch has CUDA, and the driver or the GPU is missing or does not fit.
    """
    import torch

    if device == "cpu":
        return
    if torch.version.cuda is None:
        raise RuntimeMissingError(
            f"{path} was to run on {device}: torch {torch.__version__} in {sys.executable} is built without CUDA; "
            "run: pip install --force-reinstall torch (the package index serves it with CUDA on Linux)"
        )
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:
        told = " ".join(str(error).split())[:300]
        raise DeviceError(
            f"{path} was to run on {device}: torch {torch.__version__} cannot use CUDA: {told}"
        ) from error
    index = torch.device(device).index or 0
    if index < count:
        torch.cuda.set_device(index)
    else:
        raise DeviceError(f"{path} was to run on {device}: there are {count} GPUs, counted from cuda:0")


def split(variant: str) -> tuple[str, str]:
    """``compile:fp16`` as way and precision; the empty variant is ``eager`` in ``float32``."""
    way, _, precision = variant.partition(":")
    return way or "eager", precision or "float32"


def set_tf32(allowed: bool) -> None:
    """Whether CUDA may round the factors of float32 products to 10 bits. Torch by itself lets convolutions do so."""
    import torch

    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def lowered(module: torch.fx.GraphModule, precision: str) -> torch.fx.GraphModule:
    """``module`` with every float32 in it (weights, constants, casts) in fewer bits; inputs and outputs stay float32.

    ``module`` itself is changed and given back. For ``float32`` and ``tf32`` it stays as it is.
    """
    import torch

    if precision not in _DTYPES:
        return module
    dtype: torch.dtype = getattr(torch, _DTYPES[precision])
    for owner in module.modules():
        _lower_tensors(owner, dtype)

    def fewer(value: Any) -> Any:
        return dtype if value is torch.float32 else value

    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_function":
            node.args = torch.fx.node.map_aggregate(node.args, fewer)
            node.kwargs = torch.fx.node.map_aggregate(node.kwargs, fewer)
    _cast_inputs(graph, dtype)
    _cast_outputs(graph)
    graph.lint()
    module.recompile()
    return module


def _lower_tensors(owner: torch.nn.Module, dtype: torch.dtype) -> None:
    import torch

    for name, parameter in list(owner.named_parameters(recurse=False)):
        if parameter.dtype is torch.float32:
            setattr(owner, name, torch.nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    for name, tensor in [*owner.named_buffers(recurse=False), *vars(owner).items()]:
        if isinstance(tensor, torch.Tensor) and tensor.dtype is torch.float32:
            setattr(owner, name, tensor.to(dtype))


def _cast_inputs(graph: torch.fx.Graph, dtype: torch.dtype) -> None:
    import torch

    places = [node for node in graph.nodes if node.op == "placeholder"]
    for node in places:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dtype is torch.float32:
            with graph.inserting_after(places[-1]):
                cast = graph.call_function(torch.ops.aten.to.dtype, (node, dtype))
            node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)


def _cast_outputs(graph: torch.fx.Graph) -> None:
    import torch

    (output,) = graph.find_nodes(op="output")

    def back(value: Any) -> Any:
        if not isinstance(value, torch.fx.Node):
            return value
        made = value.meta.get("val")
        if not (isinstance(made, torch.Tensor) and made.dtype is torch.float32):
            return value
        with graph.inserting_before(output):
            return graph.call_function(torch.ops.aten.to.dtype, (value, torch.float32))

    output.args = torch.fx.node.map_aggregate(output.args, back)


class Resident:
    """A program with its inputs and outputs on a device: :meth:`copy_in`, :meth:`run`, :meth:`copy_out`.

    Args:
        call: positional and keyword tensors -> the program's result.
        examples: one array an input; the buffers have their shapes and dtypes.
        device: ``cpu`` or ``cuda:N``.
    """

    def __init__(self, call: Callable[[Sequence[torch.Tensor]], Any], examples: Sequence[Array], device: str) -> None:
        import torch

        self._call = call
        self.inputs = [torch.from_numpy(np.array(array)).to(device, copy=True) for array in examples]
        self.outputs: list[torch.Tensor] = []
        self.wait = synchronizer(device)

    def copy_in(self, arrays: Sequence[Array]) -> None:
        """Host to device; done when it returns."""
        import torch

        for place, array in zip(self.inputs, arrays, strict=True):
            place.copy_(torch.from_numpy(array if array.flags.writeable else array.copy()))
        self.wait()

    def launch(self) -> None:
        """Starts one run on the buffers; on a GPU it goes on after this returns."""
        import torch

        results = self._call(self.inputs)
        self.outputs = [leaf for leaf in torch.utils._pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]

    def run(self) -> None:
        """One run on the buffers, to its end."""
        self.launch()
        self.wait()

    def copy_out(self) -> list[Array]:
        """Device to host: new arrays."""
        return [tensor.detach().cpu().numpy().copy() for tensor in self.outputs]

    @property
    def bytes(self) -> tuple[int, int]:
        """Of all inputs, of all outputs."""
        return (sum(t.nbytes for t in self.inputs), sum(t.nbytes for t in self.outputs))


class Replayed(Resident):
    """The same as a CUDA graph: captured once, then replayed on the same buffers without Python between kernels."""

    def __init__(self, call: Callable[[Sequence[torch.Tensor]], Any], examples: Sequence[Array], device: str) -> None:
        import torch

        super().__init__(call, examples, device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_CALLS):
                self._call(self.inputs)
        torch.cuda.current_stream(device).wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            super().launch()
        self.launch = self.graph.replay  # type: ignore[method-assign]

    def run(self) -> None:
        self.graph.replay()
        self.wait()


def synchronizer(device: str) -> Callable[[], object]:
    """Waits until the device has done everything it was told."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def device_ns(resident: Resident, runs: int) -> list[int]:
    """Nanoseconds of each run by the GPU's own clock: between two CUDA events, without host and copies."""
    import torch

    took = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        resident.launch()
        end.record()
        end.synchronize()
        took.append(int(begin.elapsed_time(end) * 1e6))
    return took


def compiled(module: Any) -> Any:
    """``module`` by ``torch.compile``: one graph or an error, a new one for every shape."""
    import torch

    return torch.compile(module, fullgraph=True, dynamic=False)


def explained(error: Exception, way: str, path: str) -> EdgekitError:
    """What failed when a program was first run in its way, with what is missing."""
    told = " ".join(str(error).split())
    if way == "compile" and re.search(r"InvalidCxxCompiler|No working C\+\+ compiler|C\+\+ compiler", told):
        return RuntimeMissingError(
            f"{path}: torch.compile needs a C++ compiler on the device, and finds none that works: install g++ "
            "(apt-get install g++), or name one in the environment variable CXX; without one, --runtime torch:eager"
        )
    if way == "compile" and re.search(r"triton", told, re.IGNORECASE) and "install" in told:
        return RuntimeMissingError(f"{path}: torch.compile needs triton on a GPU: pip install triton ({told[:200]})")
    return DeviceError(f"{path}: torch:{way} failed: {type(error).__name__}: {told[:300]}")


def check_way(way: str, precision: str, device: str) -> None:
    """Raises UsageError for what only a GPU has, on another device."""
    if device != "cpu":
        return
    if way == "cudagraph":
        raise UsageError("torch:cudagraph replays a CUDA graph, which needs --on cuda; on a CPU there is torch:compile")
    if precision == "tf32":
        raise UsageError("tf32 is arithmetic of NVIDIA's GPUs, which needs --on cuda; on a CPU there are fp16 and bf16")


def zeros(dtype: str, shape: tuple[int, ...]) -> Array:
    """An array to lay a buffer out by. Zeros are valid indices and tokens, too."""
    return np.zeros(shape, dtype)


@contextmanager
def inference(threads: AbstractContextManager[None]) -> Iterator[None]:
    """Without gradients, with the threads of ``threads``."""
    import torch

    with torch.inference_mode(), threads:
        yield


def within(mode: Callable[[], AbstractContextManager[None]], call: Callable[[], object]) -> Callable[[], object]:
    """``call`` inside ``mode``, every time."""

    def inside() -> None:
        with mode():
            call()

    return inside


def memory_bytes(device: str) -> int | None:
    """Most bytes torch has held on the GPU so far, None for the CPU, where it does not tell."""
    if device == "cpu":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device))
