"""Runs a torch module and hands out its intermediate tensors under the module's own names.

A tensor is called after the innermost module that returns it: ``stem.0``, ``blocks.1``. One that is made on the way,
inside of a forward, after that module and the operator: ``blocks.1:add``, and ``blocks.1:add#2`` for the second. The
network itself is ``""``, so its own operators are ``:mean``. An input has its name in the signature. A recurrent layer
is one: ``lstm``; its stacked layers are ``lstm:l0``, and an LSTM's cell states, all steps, ``lstm:l0:cell``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgekit.errors import DataError, ModelError
from edgekit.quantization.calibrate.calibration import Calibration, checked_feeds, gather
from edgekit.quantization.calibrate.checks import InputWatch, findings
from edgekit.quantization.calibrate.fingerprint import Probes, layouts_of, prints_of, probe_feeds
from edgekit.quantization.calibrate.operator_parts import inner_states, parts_of
from edgekit.types import Array, Feed, InputSpec, Signature

_MOVES = frozenset(
    ("view", "unsafe_view", "permute", "transpose", "t", "expand", "unsqueeze", "squeeze", "detach", "clone", "alias",
     "to_copy", "reshape", "copy", "lift_fresh", "contiguous")
)  # fmt: skip
"""Operators whose result holds the same values: the tensor keeps its name."""


def module_calibration(
    module: nn.Module,
    signature: Signature,
    feeds: Iterable[Feed],
    *,
    contract: Mapping[str, InputSpec] | None = None,
    method: str = "minmax",
    data: str = "",
) -> Calibration:
    """The ranges of every float tensor that ``module`` makes over ``feeds``, by the module's own names.

    Both back ends consume it: ``transfer(calibration, file)`` gives the ranges of an ONNX or TFLite file made from this
    module. Ranges learned elsewhere are put in by ``calibration.with_ranges``. So quantization-aware training ends in::

        observed = module_calibration(plain, network.signature, feeds, contract=network.card.contract, data=label)
        learned = observed.with_ranges({"stem.0": Range(-1.1, 2.0), ...}, method="qat")
        QuantizeOnnx("int8", transfer(learned, onnx_artifact)).run(onnx_artifact, context)

    where ``plain`` has the trained weights and no fake quantization, as the exported files have.

    Args:
        module: in eval mode, on the CPU.
        signature: of the module; inputs by position.
        contract: I/O contract of the inputs, from which the probes are drawn (a card has it).
        method: one of ``histogram.METHODS``.

    Raises:
        DataError: the data is empty, of another shape than ``signature`` says, or not finite.
        ModelError: the module makes NaN or infinity, or other operators for other inputs.
        UsageError: no such method.
    """
    watch = InputWatch(signature, contract or {})
    waiting = watch.watching(checked_feeds(feeds, signature))
    first = next(waiting, None)
    if first is None:
        raise DataError("the calibration data is empty; give at least one sample, some hundred are usual")
    probes = probe_feeds(signature, contract or {}, first)
    tap = ModuleTap(module, signature)
    prints = prints_of([tap.run(feed) for feed in probes])
    made = gather(tap.tensors(itertools.chain([first], waiting)), method=method, data=data, channel_axis=1)
    layers = {name: name.partition(":")[0] for name in made.ranges if name not in {s.name for s in signature.inputs}}
    known = Probes(probes, layouts_of(contract or {}), prints)
    dead = {name: count for name, count in made.dead.items() if ":" not in name}
    made = replace(made, layers=layers, aliases=tap.aliases, dead=dead, probes=known)
    return replace(made, notes=(*made.notes, *watch.findings(), *findings(made)))


class ModuleTap:
    """Runs a module and gives its float tensors by name; the names are decided in the first run.

    Attributes:
        aliases: path of a module that returns what another one made -> that tensor's name.
    """

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        self.module, self.signature = module, signature
        self.aliases: dict[str, str] = {}
        self._kinds: list[tuple[str, str]] = []
        self._names: list[str] = []

    def tensors(self, feeds: Iterable[Feed]) -> Iterator[tuple[int, Mapping[str, Array]]]:
        """For each feed, the number of samples in it and the float tensors by name."""
        for feed in feeds:
            yield max((value.shape[0] for value in feed.values() if value.ndim), default=1), self.run(feed)

    def run(self, feed: Feed) -> dict[str, Array]:
        """The float tensors of one run, by name.

        Raises:
            ModelError: the run had other operators than the first one.
        """
        recorder = _Recorder(self.module)
        given = [torch.from_numpy(np.array(feed[s.name]).astype(s.dtype)) for s in self.signature.inputs]
        was_training = self.module.training
        self.module.eval()
        try:
            with recorder.hooked(), torch.no_grad(), _plain_attention(), recorder:
                self.module(*given)
        finally:
            self.module.train(was_training)
        kinds = [(one.layer, one.operator) for one in recorder.made]
        if not self._names:
            self._kinds = kinds
            self._names = _unique([one.name for one in recorder.made], {spec.name for spec in self.signature.inputs})
            self.aliases = {
                path: self._names[place]
                for path, place in recorder.returned.items()
                if path and path != self._names[place]
            }
        elif kinds != self._kinds:
            raise ModelError(
                f"the module ran {len(kinds)} operators on this input and {len(self._kinds)} others before: its path "
                "depends on the input, so its tensors have no one range; calibrate the exported file"
            )
        inputs = {n: np.asarray(v, np.float32) for n, v in feed.items() if v.dtype.kind == "f"}
        return {**inputs, **dict(zip(self._names, (one.values for one in recorder.made), strict=True))}


class _Traced:
    """One tensor: the module in whose forward it was made, by which operator, its values, and its name so far."""

    def __init__(self, layer: str, operator: str, values: Array) -> None:
        self.layer, self.operator, self.values = layer, operator, values
        self.name = f"{layer}:{operator}"


class _Recorder(TorchDispatchMode):
    """Records every float tensor that an operator gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[_Traced] = []
        self.returned: dict[str, int] = {}
        self._paths = {id(child): path for path, child in reversed(list(module.named_modules()))}
        self._module = module
        self._stack = [""]
        self._muted = 0
        self._places: dict[int, int] = {}
        self._alive: list[Any] = []  # a tensor is known by its id, which must not be given to another

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._muted:
            return result
        operator = func.overloadpacket.__name__.strip("_")
        if operator in _MOVES and isinstance(args[0], Tensor) and args[0].is_floating_point():
            if id(args[0]) in self._places:
                self._places[id(result)] = self._places[id(args[0])]
                self._alive.append(result)
            return result
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel():
                self._add(self._stack[-1], operator, leaf)
        self._muted += 1  # what follows is not the module's own work
        for name, part in parts_of(operator, args).items():
            self._add(self._stack[-1], f"{operator}:{name}", part)
        self._muted -= 1
        return result

    def _add(self, layer: str, operator: str, tensor: Tensor) -> None:
        self._places[id(tensor)] = len(self.made)
        self._alive.append(tensor)
        values = np.array(tensor.detach().to(torch.float32).numpy())
        self.made.append(_Traced(layer, operator, values))

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Follows which module runs, for as long as the context lasts."""
        handles = []
        for child in self._module.modules():
            handles.append(child.register_forward_pre_hook(self._enter))
            handles.append(child.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, given: Any) -> None:
        self._stack.append(self._paths[id(module)])
        self._muted += isinstance(module, nn.RNNBase)

    def _leave(self, module: nn.Module, given: Any, result: Any) -> None:
        path = self._stack.pop()
        if isinstance(module, nn.RNNBase):
            states = [] if result is None else list(inner_states(module, *given))
            self._muted -= 1
            for name, values in states:
                self._add(path, name, values)
            for leaf in tree_leaves(result):
                self._add(path, "state", leaf)
        for leaf in tree_leaves(result):
            place = self._places.get(id(leaf)) if isinstance(leaf, Tensor) else None
            if place is None:
                continue
            one = self.made[place]
            if one.name.endswith(f":{one.operator}") and ":" in one.name and path:
                one.name = path  # the innermost module comes first
            self.returned.setdefault(path, place)
            break  # the first tensor is the one that the module is known for


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention out of single operators, as exporters write it, not the fused kernels of eager torch."""
    was = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, was)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


def _unique(names: list[str], taken: set[str]) -> list[str]:
    """``a, b, a`` -> ``a, b, a#2``; names of inputs are taken."""
    counts = dict.fromkeys(taken, 1)
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return found
