"""Depth pruning: residual blocks leave whole where the shortcut is the identity.

The limit of pruning the channels inside a block (Wen et al. 2016 reach it by group sparsity): with none of them left
the branch adds nothing, and the block gives on what it takes. Which blocks are of that kind is asked of the network
itself: with every weight of a block at zero its output must be its input, or that through a ReLU. Code is not read, so
the user's own blocks are found too, convolutions or a transformer's.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgekit.artifact import library_versions
from edgekit.converters.base import own_prefix
from edgekit.errors import UnsupportedError, UsageError
from edgekit.models.skipped import skip_blocks
from edgekit.models.weight_norm import without_weight_norms
from edgekit.passes import Model, Pass, PassContext, with_params
from edgekit.pruning.channels import examples, network_of
from edgekit.pruning.layers import agree, noise
from edgekit.pruning.macs import layer_macs
from edgekit.types import Network, PassResult, Step

KINDS = ("magnitude", "random")
"""``magnitude``: how far the block moves what goes through it, ||out - in||² / ||in||² over all samples (after
ShortGPT's block influence, Men et al. 2024, with a distance in place of an angle, which is small between outputs of
ReLU). ``random``: the control."""


@dataclass(frozen=True)
class RemovableBlock:
    """A block that can leave.

    Attributes:
        name: of the module, as in the user's own network.
        left: what stands in its place, see :data:`~edgekit.models.skipped.LEFT`.
        macs: multiply-accumulates that leave with it.
        change: how far it moves what goes through it; see :data:`KINDS`.
    """

    name: str
    left: str
    macs: int
    change: float


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Removes the residual blocks that change least for their work, until ``amount`` of the multiply-accumulates are
    gone.

    Attributes:
        amount: share of the multiply-accumulates to remove, above 0 and below 1; a block leaves whole, so more may go.
        importance: see :data:`KINDS`.
        feed: model-ready inputs on which ``magnitude`` is measured; noise where it is None.
        seed: for ``random``, and for the noise.
        keep: patterns (``blocks.*``, as in :mod:`fnmatch`) of blocks that stay.
    """

    amount: float
    importance: str = "magnitude"
    feed: Sequence[Tensor] | None = field(default=None, repr=False, compare=False)
    seed: int = 0
    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "prune-blocks"

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1:
            raise UsageError(
                f"--amount is {self.amount:g}; give the share of multiply-accumulates to remove, above 0 and below 1 "
                "(0.5 removes half)"
            )
        if self.importance not in KINDS:
            raise UsageError(
                f"--importance {self.importance} ranks channels, and whole blocks go by one of: {', '.join(KINDS)}"
            )

    def describe(self, model: Model) -> Step:
        params = {
            "method": "blocks",
            "amount": self.amount,
            "importance": self.importance,
            **({"keep": list(self.keep)} if self.keep else {}),
        }
        return Step("prune", params, library_versions("torch"))

    def apply(self, model: Model, context: PassContext) -> PassResult:
        network = network_of(model)
        module, inputs = network.module, examples(network)
        prefix = own_prefix(module)
        gone = {f"{prefix}{block.name}": block.left for block in self.chosen(network)}
        names = [name.removeprefix(prefix) for name in gone]
        pruned = copy.deepcopy(module).eval()
        skip_blocks(pruned, gone)
        try:
            agree(without_branches(without_weight_norms(module), gone), pruned, inputs, self.name)
        except (RuntimeError, AttributeError, TypeError) as error:  # torch's, and those of a forward that looks inside
            raise UnsupportedError(
                f"without {', '.join(names)} the network fails: {error}. Its forward looks inside a block; --keep "
                "leaves the block where it is"
            ) from error
        step = with_params(
            self.describe(model),
            macs_before=sum(layer_macs(module, inputs).values()),
            macs_after=sum(layer_macs(pruned, inputs).values()),
            parameters_before=sum(p.numel() for p in module.parameters()),
            parameters_after=sum(p.numel() for p in pruned.parameters()),
            blocks=names,
        )
        config = {**network.card.config, "skipped": {**network.card.config.get("skipped", {}), **gone}}
        card = replace(network.card.with_step(step), config=config, quality=(), selftest=None, source_sha256="")
        return PassResult(Network(pruned, network.example_inputs, card), True)

    def choice(self, network: Network) -> list[str]:
        """What makes two amounts the same pruning: the blocks that leave. Raises as :meth:`chosen`."""
        return [block.name for block in self.chosen(network)]

    def most(self, network: Network) -> float:
        """The largest share that can leave. Raises as :meth:`chosen`."""
        found, total = self.blocks(network)
        return sum(block.macs for block in found) / total

    def chosen(self, network: Network) -> list[RemovableBlock]:
        """The blocks that leave.

        Raises:
            UnsupportedError: no block can.
            UsageError: all that can do not save so much; a pattern of ``keep`` is the name of no block.
        """
        found, total = self.blocks(network)
        goal = self.amount * total
        most = sum(block.macs for block in found)
        if most < goal:
            raise UsageError(
                f"removing {self.amount:.1%} of the multiply-accumulates cannot be reached: without "
                f"{', '.join(block.name for block in found)} at most {most / total:.1%} of them leave; ask for less, "
                "or prune channels too"
            )
        leaving: list[RemovableBlock] = []
        for block in sorted(found, key=lambda block: block.change / block.macs):
            if sum(other.macs for other in leaving) < goal:
                leaving.append(block)
        for block in sorted(leaving, key=lambda block: -block.change):  # what a later, larger one made needless
            rest = [other for other in leaving if other is not block]
            if sum(other.macs for other in rest) >= goal:
                leaving = rest
        return [block for block in found if block in leaving]

    def blocks(self, network: Network) -> tuple[list[RemovableBlock], int]:
        """The blocks that can leave, in the order they run, and the network's multiply-accumulates.

        Raises:
            UnsupportedError, UsageError: see :meth:`chosen`.
        """
        module, inputs = without_weight_norms(network_of(network).module), examples(network)
        macs = layer_macs(module, inputs)
        feed = noise(inputs, self.seed) if self.feed is None else list(self.feed)
        found, others = residual_blocks(module, feed, macs)
        if not found:
            raise UnsupportedError(
                "no block can leave this network: none gives what it takes once its weights are zero, as a residual "
                f"block with an identity shortcut does{''.join(f'; {why}' for why in others)}"
            )
        for pattern in self.keep:
            if not fnmatch.filter([block.name for block in found], pattern):
                names = ", ".join(block.name for block in found)
                raise UsageError(f"--keep {pattern} is the name of no block that can leave; there are: {names}")
        found = [b for b in found if not any(fnmatch.fnmatchcase(b.name, pattern) for pattern in self.keep)]
        if not found:
            raise UsageError(f"--keep {' '.join(self.keep)} keeps every block; keep fewer")
        if self.importance == "random":
            generator = torch.Generator().manual_seed(self.seed)
            found = [replace(b, change=float(torch.rand((), generator=generator))) for b in found]
        return found, sum(macs.values())


@dataclass
class _Call:
    """One run of a module: what it was given and gave, whether a ReLU made its input, and how often it ran."""

    given: tuple[Any, ...]
    named: dict[str, Any]
    result: Any
    rectified: bool
    times: int = 1


def residual_blocks(
    module: nn.Module, feed: Sequence[Tensor], macs: dict[str, int]
) -> tuple[list[RemovableBlock], list[str]]:
    """The innermost modules that hold layers with multiply-accumulates and pass on their input when these are zero;
    and, of blocks that keep their input's shape, or look like one that could not leave, why it cannot."""
    prefix = own_prefix(module)
    twin = copy.deepcopy(module).eval().requires_grad_(True)  # so that an input knows what made it
    calls = _calls(twin, feed)
    found: list[RemovableBlock] = []
    others: list[str] = []
    for name, call in sorted(calls.items(), key=lambda row: -row[0].count(".")):  # inner ones first
        inside = [count for layer, count in macs.items() if layer.startswith(f"{name}.")]
        if len(inside) < 2 or any(block.name.startswith(f"{name}.") for block in found):
            continue  # a layer is not a block; a stage of blocks is not the smallest one
        x, y = call.given[0] if call.given else None, call.result
        if not (isinstance(x, Tensor) and isinstance(y, Tensor) and x.is_floating_point()):
            continue
        layer = module.get_submodule(name)
        left = _left(layer, call) if x.shape == y.shape and call.times == 1 else None
        if left is None:
            others.append(f"{name.removeprefix(prefix)} ({type(layer).__name__}) {_why(call, x, y)}")
            continue
        stays = torch.relu(x) if left == "relu" else x
        found.append(RemovableBlock(name, "identity" if call.rectified else left, sum(inside), _change(stays, y)))
    order = list(calls)
    found.sort(key=lambda block: order.index(block.name))
    return [replace(block, name=block.name.removeprefix(prefix)) for block in found], others


@torch.no_grad()
def _change(stays: Tensor, result: Tensor) -> float:
    """||result - stays||² / ||stays||²: how far a block moves what would be left of it."""
    return float((result - stays).square().sum() / stays.square().sum().clamp_min(torch.finfo(stays.dtype).tiny))


def _why(call: _Call, x: Tensor, y: Tensor) -> str:
    if call.times > 1:
        return f"runs {call.times} times"
    if x.shape != y.shape:
        return f"takes {tuple(x.shape)} and gives {tuple(y.shape)}"
    return "has no identity shortcut"


def _calls(module: nn.Module, feed: Sequence[Tensor]) -> dict[str, _Call]:
    """Every submodule's run on ``feed``, in the order in which they began."""
    calls: dict[str, _Call] = {}
    hooks: list[Any] = []

    def begun(name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            if name in calls:
                calls[name].times += 1
                return
            first = given[0] if given else None
            maker = getattr(getattr(first, "grad_fn", None), "name", str)()
            calls[name] = _Call(given, named, None, maker == "ReluBackward0")

        return hook

    def ended(name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Any, ...], result: Any) -> None:
            calls[name].result = result

        return hook

    prefix = own_prefix(module)
    for name, layer in module.named_modules():
        if name and name.startswith(prefix) and any(layer.children()):
            hooks.append(layer.register_forward_pre_hook(begun(name), with_kwargs=True))
            hooks.append(layer.register_forward_hook(ended(name)))
    try:
        with torch.enable_grad():
            module(*feed)
    finally:
        for handle in hooks:
            handle.remove()
    return calls


@torch.no_grad()
def _left(layer: nn.Module, call: _Call) -> str | None:
    """What ``layer`` gives with its weights at zero: ``identity``, ``relu``, or None for anything else."""
    x = call.given[0]
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)  # of both signs
    try:
        result = _zeroed(layer)(probe, *call.given[1:], **call.named)
    except (RuntimeError, ValueError, ArithmeticError, AssertionError):  # code that refuses such numbers
        return None
    if not isinstance(result, Tensor) or result.shape != probe.shape:
        return None
    if torch.equal(result, probe):
        return "identity"
    return "relu" if torch.equal(result, torch.relu(probe)) else None


@torch.no_grad()
def _zeroed(layer: nn.Module) -> nn.Module:
    """A copy with every weight, shift and running mean at zero: whatever it computes of them adds nothing."""
    copied = copy.deepcopy(layer).eval()
    for parameter in copied.parameters():
        parameter.zero_()
    for norm in copied.modules():
        if isinstance(norm, nn.modules.batchnorm._NormBase) and norm.running_mean is not None:
            norm.running_mean.zero_()
    return copied


def without_branches(module: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of ``module`` in which every weight of the blocks ``names`` is zero: what pruning them must equal."""
    copied = copy.deepcopy(module).eval()
    for name in names:
        copied.set_submodule(name, _zeroed(copied.get_submodule(name)))
    return copied
