"""What makes no sense about the options of ``edgekit prune``, and the schedule that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import UsageError
from edgekit.options.prune import ROUND_TO, PruneOptions
from edgekit.pruning.blocks import KINDS
from edgekit.pruning.groups import SPREADS
from edgekit.pruning.importance import check_kind
from edgekit.pruning.methods import PruningMethod, method

EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Schedule:
    """How much leaves, and in how many steps.

    Attributes:
        amount: share to remove; None where it is looked for.
        epochs: of fine-tuning in all; 0 for none.
        steps: 4 for ``magnitude`` with fine-tuning of as many epochs where the user does not say, else 1.
    """

    amount: float | None
    epochs: int
    steps: int


def check(options: PruneOptions) -> Schedule:
    """Refuses what makes no sense, before anything is read.

    Raises:
        UsageError: an unknown name, or options that exclude each other.
    """
    how, epochs = method(options.method), options.epochs
    if epochs and options.data is None:
        raise UsageError("--epochs fine-tunes, which needs --data")
    _check_options(options, how)
    amount = _amount(options, how)
    tuned = 0 if options.data is None else EPOCHS if epochs is None else epochs
    steps = options.steps or (min(how.steps, max(tuned, 1)))
    if steps > 1 and tuned < steps:
        raise UsageError(f"--steps {steps} fine-tunes after each step: give --data and --epochs {steps} or more")
    if steps > 1 and how.amount is not None:
        raise UsageError(f"--method {how.name} has one step: it has one amount")
    return Schedule(amount, tuned, steps)


def _check_options(options: PruneOptions, how: PruningMethod) -> None:
    check_kind(options.importance)
    if how.name == "blocks":
        _check_blocks(options)
    if options.spread not in SPREADS:
        raise UsageError(f"no spread is called {options.spread!r}; there are: {', '.join(SPREADS)}")
    if options.importance == "taylor" and options.data is None:
        raise UsageError("--importance taylor measures gradients on training samples, which needs --data")
    if options.importance != "magnitude" and not how.structured:
        raise UsageError(f"--importance is for --method channels and blocks; {how.name} goes by magnitude")
    if options.keep and not how.structured:
        raise UsageError(
            f"--keep is about what gets smaller, with --method channels or blocks; {how.name} keeps all layers"
        )
    if options.max_drop is not None and options.data is None:
        raise UsageError("--max-drop is measured, which needs --data")


def _check_blocks(options: PruneOptions) -> None:
    if options.importance not in KINDS:
        raise UsageError(
            f"--importance {options.importance} ranks channels, and whole blocks go by one of: {', '.join(KINDS)}"
        )
    if options.spread != "even" or options.round_to != ROUND_TO:
        raise UsageError("--spread and --round-to are about widths, for --method channels; blocks leave whole")


def _amount(options: PruneOptions, how: PruningMethod) -> float | None:
    """The amount; None where it is looked for."""
    amount = options.amount
    targets = {"--target-macs": options.target_macs, "--target-latency": options.target_latency}
    given = [name for name, value in targets.items() if value is not None]
    if how.amount is not None:
        if given or amount not in (None, how.amount):
            raise UsageError(f"--method {how.name} has one amount, {how.amount:g}: leave --amount and the targets out")
        return how.amount
    if given and not how.structured:
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
    return amount
