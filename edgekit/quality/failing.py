"""The smallest part of a network that a tool cannot convert, found by converting its parts by themselves.

From the top: the parts that a failing module calls are tried on the inputs they get; one that fails for the same cause
is gone into, and where none does the module itself is the smallest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import registry
from edgekit.adapter import adapt
from edgekit.converters.base import Capture, ConversionOptions, own_prefix
from edgekit.devices import open_runner
from edgekit.errors import ConversionError, InputError, ModelError
from edgekit.leftovers import scratch_folder
from edgekit.quality.causes import Cause, explain
from edgekit.types import Card, Network, Task
from edgekit.usercode import imported_files

if TYPE_CHECKING:
    import torch

    from edgekit.runtime.base import Runner

log = logging.getLogger("edgekit")
LIMIT_S = 120.0
"""Time after which no further part is tried. The one being tried is finished."""
TOOLS = {"torch.export": "torch.export", "onnx": "the ONNX exporter", "tflite": "litert-torch", "pte": "ExecuTorch"}
CALLS = 4
"""Calls of one module with different shapes that are kept; further ones are taken to behave like these."""


@dataclass(frozen=True, slots=True)
class Part:
    """A module with the arguments of one call. ``name`` is its path in the user's network, empty for all of it."""

    name: str
    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The class with the module it is written in: ``torch.nn.modules.linear.Linear``, ``Block of net.py``."""
        kind = type(self.module)
        file = imported_files().get(kind.__module__)
        if file is not None:
            return f"{kind.__qualname__} of {Path(file).name}"
        return f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True, slots=True)
class Failing:
    """What the search found.

    Attributes:
        error: what the tool says of the part alone.
        finished: False when time ran out: a smaller part may fail too.
        tried: parts that were converted.
    """

    part: Part
    error: ConversionError
    cause: Cause
    finished: bool
    tried: int


def smallest(capture: Capture, error: ConversionError, limit_s: float = LIMIT_S) -> Failing | None:
    """The smallest part of the captured network that fails as ``error`` says, by itself and with fixed sizes.

    None when all of it converts with the sizes of its example inputs: a dynamic axis or the layout is the cause then.
    """
    search = _Search(error.tool, capture.options.opset, time.monotonic() + limit_s)
    root = whole(capture.network)
    found = search.attempt(root)
    if found is None:
        return None
    log.info(
        "%s failed; looking for the smallest part of %s that fails by itself (at most %.0f s)",
        TOOLS[error.tool],
        capture.network.name,
        limit_s,
    )
    return search.below(root, found)


def whole(network: Network) -> Part:
    """All of ``network`` as a part, called as the user's own module is: what adapters stand in front is left out."""
    import torch

    inputs = [torch.from_numpy(network.example_inputs[spec.name].copy()) for spec in network.signature.inputs]
    module, prefix = network.module, own_prefix(network.module)
    if not prefix:
        return Part("", module, tuple(inputs))
    inner = module.get_submodule(prefix.rstrip("."))
    calls = _calls(Part("", module, tuple(inputs)), {id(inner): ""})
    return calls[0] if calls else Part("", module, tuple(inputs))


@contextmanager
def opened(path: Path, tool: str) -> Iterator[Runner]:
    """A runner of a file that ``tool`` wrote just now.

    Raises:
        ConversionError: the runtime does not take the file: an operator in it has no kernel.
    """
    try:
        runner = open_runner(path)
    except ModelError as error:
        said = str(error).removeprefix(f"{path}: ")
        headline = f"{TOOLS[tool]} wrote {path.name}, which cannot be run: {said}"
        raise ConversionError(tool, headline, "Nothing was published", said, written=True) from error
    with runner:
        yield runner


def convert_alone(tool: str, module: torch.nn.Module, args: Any, kwargs: Any = None, opset: int | None = None) -> None:
    """Converts a module as ``edgekit export`` would, with fixed sizes, opens the file, and throws it away.

    Args:
        tool: ``torch.export``, ``onnx``, ``tflite`` or ``pte``.

    Raises:
        ConversionError: the tool fails.
        SourceError: the module cannot stand alone: no tensor among its arguments or results.
    """
    adapted, examples, signature = adapt(module, args, kwargs or {})
    network = Network(adapted, examples, Card(type(module).__name__, "custom", Task(), signature))
    capture = Capture(network, ConversionOptions(opset=opset if tool == "onnx" else None))
    if tool == "torch.export":
        _ = capture.program
        return
    with scratch_folder() as folder:
        path = folder / f"part.{tool}"
        registry.lookup("converters", tool)().convert(capture, path)
        with opened(path, tool):
            pass


@dataclass(slots=True)
class _Search:
    """One search: what was tried, and until when."""

    tool: str
    opset: int | None
    until: float
    _known: dict[str, ConversionError | None] = field(default_factory=dict)
    _finished: bool = True

    def attempt(self, part: Part) -> ConversionError | None:
        """What the tool says of ``part``; None when it converts, or cannot be tried alone."""
        key = _likeness(part)
        if key not in self._known:
            self._known[key] = None
            args, kwargs = _copied((part.args, dict(part.kwargs)))
            try:
                convert_alone(self.tool, part.module, args, kwargs, self.opset)
            except ConversionError as error:
                self._known[key] = error
            except InputError as error:
                log.debug("%s cannot be tried alone: %s", part.name, error)
        return self._known[key]

    def below(self, part: Part, error: ConversionError) -> Failing:
        """The smallest failing part among those that ``part``, which fails, calls; ``part`` itself where none does."""
        cause = explain(error.detail)
        for child in self._parts_of(part):
            if time.monotonic() > self.until:
                self._finished = False
                break
            found = self.attempt(child)
            if found is not None and explain(found.detail).kind == cause.kind:
                log.info("  fails by itself: %s (%s)", child.name, type(child.module).__name__)
                return self.below(child, found)
        return Failing(part, error, cause, self._finished, len(self._known))

    def _parts_of(self, part: Part) -> Iterator[Part]:
        """What ``part`` calls directly; in place of a module that cannot stand alone, what that calls."""
        names = {id(m): f"{part.name}.{n}".lstrip(".") for n, m in part.module.named_modules() if n}
        calls: list[Part] = []
        with suppress(Exception):  # the user's own code failed: torch's message is the one to show
            calls = _calls(part, names)
        for call in calls:
            if _alone(call):
                yield call
            else:
                yield from self._parts_of(call)


def _alone(part: Part) -> bool:
    """Whether the part takes a tensor: without one there is nothing to capture."""
    import torch
    from torch.utils._pytree import tree_leaves

    return any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves((part.args, part.kwargs)))


def _calls(part: Part, names: Mapping[int, str]) -> list[Part]:
    """The modules of ``names`` that ``part`` calls directly (not from within one of them), with their arguments."""
    import torch

    found: dict[str, Part] = {}
    depth = [0]

    def enter(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        depth[0] += 1
        if depth[0] == 1:
            call = Part(names[id(module)], module, *_copied((args, kwargs)))
            key = f"{call.name} {_likeness(call)}"
            if sum(known.name == call.name for known in found.values()) < CALLS:
                found.setdefault(key, call)

    def leave(*_: Any) -> None:
        depth[0] -= 1

    handles = []
    for module in part.module.modules():
        if id(module) in names:
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        with torch.no_grad():
            args, kwargs = _copied((part.args, dict(part.kwargs)))
            part.module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _copied(values: Any) -> Any:
    """Arguments with tensors of their own: a module may write into what it is given."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(lambda v: v.detach().clone() if isinstance(v, torch.Tensor) else v, values)


def _likeness(part: Part) -> str:
    """Equal for parts that convert alike: same class, structure, options, sizes of weights and kinds of arguments."""
    import torch
    from torch.utils._pytree import tree_map

    def shown(value: Any) -> str:
        return f"{value.dtype}{tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)

    weights = [f"{name}{shown(tensor)}" for name, tensor in part.module.state_dict(keep_vars=True).items()]
    flags = {k: v for k, v in vars(part.module).items() if isinstance(v, bool | int | float | str)}
    arguments = tree_map(shown, (part.args, dict(part.kwargs)))
    return f"{part.kind} {part.module!r} {flags} {weights} {arguments}"
