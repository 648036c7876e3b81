"""Options of ``edgekit prune`` and what makes no sense about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import UsageError
from edgekit.passes.prune_blocks import KINDS
from edgekit.passes.prune_groups import SPREADS
from edgekit.passes.prune_importance import check_kind

METHODS = ("channels", "blocks", "magnitude", "2:4")
STRUCTURED = ("channels", "blocks")
"""Methods that leave a smaller network, not zeros."""
EPOCHS = 10
FORMATS = ("onnx", "tflite")
STEPS = {"magnitude": 4}
"""Steps of a method where the user does not say; 1 of the others."""


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """How a network is pruned and how it recovers.

    Attributes:
        distil: the unpruned network is the teacher of the fine-tuning.
        spread, round_to, importance, keep: see :class:`~edgekit.passes.prune_channels.PruneChannels`, and
            :class:`~edgekit.passes.prune_blocks.PruneBlocks`.
        device: ``cpu`` or ``cuda``, to fine-tune on.
        overrides: fields of :class:`~edgekit.models.family.TrainOptions` to replace.
        steps: the amount is reached in so many steps with fine-tuning after each; None: 4 for ``magnitude`` with
            fine-tuning of as many epochs, else 1.
        target_macs: prunes to at most so many multiply-accumulates, instead of an amount.
        target_latency: prunes until a run takes at most so many milliseconds (p50) on ``on``, instead of an amount.
        on: the device, for ``target_latency``.
        to: the format that is timed, ``onnx`` or ``tflite``.
        max_drop: with an amount or a target, a gate: the largest loss of quality to publish. Alone: as much is pruned
            as stays within it.
    """

    distil: bool = True
    spread: str = "even"
    round_to: int = 8
    device: str = "cpu"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    importance: str = "magnitude"
    steps: int | None = None
    target_macs: int | None = None
    target_latency: float | None = None
    on: str = "cpu"
    to: str = "onnx"
    max_drop: float | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request.

    Attributes:
        method: one of :data:`METHODS`.
        amount: share to remove; None where it is looked for.
        epochs: of fine-tuning in all; 0 for none.
        steps: see :class:`PruneOptions`.
        options: everything else.
    """

    method: str
    amount: float | None
    epochs: int
    steps: int
    seed: int
    options: PruneOptions


def asked(
    method: str, amount: float | None, data: str | None, epochs: int | None, seed: int, options: PruneOptions
) -> Asked:
    """Checks what was asked for.

    Raises:
        UsageError: a value out of range, or two that exclude each other.
    """
    if method not in METHODS:
        raise UsageError(f"no pruning method is called {method!r}; there are: {', '.join(METHODS)}")
    if epochs is not None and epochs < 0:
        raise UsageError(f"epochs is {epochs}; give 0 or more")
    if epochs and data is None:
        raise UsageError("--epochs fine-tunes, which needs --data")
    _check_options(method, data, options)
    amount = _amount(method, amount, options)
    tuned = 0 if data is None else EPOCHS if epochs is None else epochs
    steps = options.steps or (min(STEPS.get(method, 1), max(tuned, 1)))
    if steps > 1 and tuned < steps:
        raise UsageError(f"--steps {steps} fine-tunes after each step: give --data and --epochs {steps} or more")
    if steps > 1 and method == "2:4":
        raise UsageError("--method 2:4 has one step: two of four leave, or none")
    return Asked(method, amount, tuned, steps, seed, options)


def _check_options(method: str, data: str | None, options: PruneOptions) -> None:
    check_kind(options.importance)
    if method == "blocks":
        _check_blocks(options)
    if options.spread not in SPREADS:
        raise UsageError(f"no spread is called {options.spread!r}; there are: {', '.join(SPREADS)}")
    if options.to not in FORMATS:
        raise UsageError(f"no format is called {options.to!r} here; there are: {', '.join(FORMATS)}")
    if options.steps is not None and options.steps < 1:
        raise UsageError(f"steps is {options.steps}; give 1 or more")
    if options.importance == "taylor" and data is None:
        raise UsageError("--importance taylor measures gradients on training samples, which needs --data")
    if options.importance != "magnitude" and method not in STRUCTURED:
        raise UsageError(f"--importance is for --method channels and blocks; {method} goes by magnitude")
    if options.keep and method not in STRUCTURED:
        raise UsageError(
            f"--keep is about what gets smaller, with --method channels or blocks; {method} keeps all layers"
        )
    if options.max_drop is not None:
        if not 0 <= options.max_drop < math.inf:
            raise UsageError(
                f"--max-drop is {options.max_drop:g}; give a fraction from 0 (0.01: one point of accuracy)"
            )
        if data is None:
            raise UsageError("--max-drop is measured, which needs --data")
    if options.target_latency is not None and not 0 < options.target_latency < math.inf:
        raise UsageError(f"--target-latency is {options.target_latency:g}; give milliseconds above 0")
    if options.target_macs is not None and options.target_macs < 1:
        raise UsageError(f"--target-macs is {options.target_macs}; give 1 or more")


def _check_blocks(options: PruneOptions) -> None:
    if options.importance not in KINDS:
        raise UsageError(
            f"--importance {options.importance} ranks channels, and whole blocks go by one of: {', '.join(KINDS)}"
        )
    if options.spread != "even" or options.round_to != PruneOptions().round_to:
        raise UsageError("--spread and --round-to are about widths, for --method channels; blocks leave whole")


def _amount(method: str, amount: float | None, options: PruneOptions) -> float | None:
    """The amount; None where it is looked for."""
    targets = {"--target-macs": options.target_macs, "--target-latency": options.target_latency}
    given = [name for name, value in targets.items() if value is not None]
    if method == "2:4":
        if given or amount not in (None, 0.5):
            raise UsageError("--method 2:4 makes half of the weights zero: leave --amount and the targets out")
        return 0.5
    if given and method not in STRUCTURED:
        raise UsageError(
            f"{given[0]} is for --method channels and blocks: zeros save no multiply-accumulates in any runtime here"
        )
    if len(given) + (amount is not None) > 1:
        every = [*(["--amount"] if amount is not None else []), *given]
        raise UsageError(f"{' and '.join(every)} exclude each other: give one")
    if amount is None and not given and options.max_drop is None:
        raise UsageError(
            "how much shall leave? give --amount A, --target-macs N, --target-latency MS, or --max-drop D to have as "
            "much taken as stays within it"
        )
    if amount is not None and not 0 < amount < 1:
        raise UsageError(f"--amount is {amount:g}; give a share above 0 and below 1 (0.5 removes half)")
    return amount
