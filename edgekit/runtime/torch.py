"""Torch: exported programs (``.pt2``), and modules in memory as the reference of a parity proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import DeviceError, UnsupportedError
from edgekit.runtime.base import Runner
from edgekit.runtime.feeds import FeedPlan
from edgekit.runtime.ports import Port, unnamed
from edgekit.runtime.pt2 import load_program
from edgekit.runtime.torch_ways import VARIANTS
from edgekit.types import Array, Feed, Format, Signature, TensorSpec

if TYPE_CHECKING:
    import torch


class TorchRunner(Runner):
    """A ``.pt2`` file (``torch.export.save``), run eagerly on the CPU. Its variants are in :mod:`.torch_resident`."""

    name = "torch"
    formats = (Format.PT2,)
    package = module = "torch"
    extra = "torch"
    variants = VARIANTS
    on_cuda = VARIANTS

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        program = load_program(self.artifact.path)
        arguments, keywords = program.call_spec.in_spec.children()
        self._positional = arguments.num_leaves
        self._keywords = list(keywords.context or ())
        if any(child.num_children for child in (*arguments.children(), *keywords.children())):
            raise UnsupportedError(
                f"{self.artifact.path}: an argument is a list or a dict of tensors; edgekit runs one tensor an argument"
            )
        inputs, outputs = _specs(program)
        self._writes = _may_write(program)
        self._module: Any = self._runnable(program)
        return [Port(spec, k) for k, spec in enumerate(inputs)], [Port(spec, k) for k, spec in enumerate(outputs)]

    def _runnable(self, program: Any) -> Any:
        return program.module()

    def _ready(self) -> None:
        self._order = [int(port.key) for port in self._inputs]
        self._results = [int(port.key) for port in self._outputs]

    def _call(self, arrays: list[Array]) -> list[Array]:
        given: list[Any] = [None] * len(arrays)
        for place, array in zip(self._order, arrays, strict=True):
            given[place] = array
        keywords = dict(zip(self._keywords, given[self._positional :], strict=True))
        results = call_module(self._module, given[: self._positional], keywords, self.threads, copied=self._writes)
        return [results[place] for place in self._results]

    def save_compiled(self, target: str) -> None:
        raise UnsupportedError("torch runs the program as it is; nothing is compiled")

    @property
    def graph_module(self) -> Any:
        """The program as a ``torch.fx.GraphModule``, its inputs in the order of the keys of :meth:`bound`."""
        return self._module

    def close(self) -> None:
        self._module = None


class TorchModuleRunner:
    """A module in memory behind the same ``run``: the reference that conversions are proved against.

    Args:
        module: put into eval mode here; called with one positional tensor an input, in the order of the signature.
        signature: names, dtypes and shapes; the results are taken in the order of its outputs.
    """

    name = "torch"

    def __init__(self, module: torch.nn.Module, signature: Signature, *, threads: int = 1) -> None:
        self.signature = signature
        self._module = module.eval()
        self._threads = threads
        self._accept = FeedPlan(signature.inputs, type(module).__name__).accept

    def run(self, feed: Feed) -> dict[str, Array]:
        """One inference: arrays by input name -> new arrays by output name.

        Raises:
            FeedError: the feed does not fit the signature.
            DeviceError: the module raised, or gave another number of results than the signature has.
        """
        arrays = self._accept(feed)
        try:
            results = call_module(self._module, arrays, {}, self._threads)
        except Exception as error:
            raise DeviceError(f"{type(self._module).__name__} raised {type(error).__name__}: {error}") from error
        names = [spec.name for spec in self.signature.outputs]
        if len(results) != len(names):
            raise DeviceError(
                f"{type(self._module).__name__} gave {len(results)} results, its signature has {len(names)}: "
                f"{', '.join(names)}"
            )
        return dict(zip(names, results, strict=True))


def call_module(
    module: Callable[..., Any],
    arguments: Sequence[Array],
    keywords: dict[str, Array],
    threads: int,
    *,
    copied: bool = True,
) -> list[Array]:
    """Calls ``module`` on arrays, without gradients; its tensors, flattened in order, as arrays of their own.

    ``copied``: on copies of the arrays, because a forward may change what it is given (``x.sub_(mean)``).
    """
    import torch

    def tensor(array: Array) -> torch.Tensor:
        return torch.from_numpy(array.copy() if copied or not array.flags.writeable else array)

    with torch.inference_mode(), limited_threads(threads):
        results = module(*map(tensor, arguments), **{name: tensor(array) for name, array in keywords.items()})
    leaves = torch.utils._pytree.tree_leaves(results)
    return [np.array(leaf.detach().cpu().numpy()) for leaf in leaves if isinstance(leaf, torch.Tensor)]


@contextmanager
def limited_threads(number: int) -> Iterator[None]:
    """Torch's number of threads belongs to the process: it is put back."""
    import torch

    before = torch.get_num_threads()
    if before == number:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _may_write(program: Any) -> bool:
    """Whether an operator of an exported program works in place, on its inputs perhaps."""
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes)
    return any(schema is not None and schema.is_mutable for schema in schemas)


def _specs(program: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of an exported program; its symbols (``s40``) are given readable names."""
    import torch

    names = list(program.graph_signature.user_inputs)
    results = list(program.graph_signature.user_outputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    dims: dict[str, str] = {}

    def spec(shown: str, name: str) -> TensorSpec:
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise UnsupportedError(f"{shown!r} of the program is a {type(value).__name__}, not a tensor")
        shape = tuple(
            size if isinstance(size, int) else dims.setdefault(str(size), unnamed(shown, axis, len(names) == 1))
            for axis, size in enumerate(value.shape)
        )
        return TensorSpec(shown, str(value.dtype).removeprefix("torch."), shape)

    inputs = [spec(name, name) for name in names]
    return inputs, [spec(f"output_{k}", name) for k, name in enumerate(results)]


def free_batch(signature: Signature) -> Signature:
    """``signature`` with the first axis of every tensor free, as ``batch``: a module in memory takes any."""

    def freed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, shape=("batch", *spec.shape[1:])) for spec in specs)

    return Signature(freed(signature.inputs), freed(signature.outputs))
