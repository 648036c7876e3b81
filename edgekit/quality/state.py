"""State that leaks from one run into the next: the same input must give the same outputs, whatever was run before.

TFLite's fused recurrent operators keep their state in variable tensors, a ``.pt2`` program may write its buffers; a
file that does not start every call from zeros, and a runner that does not put them back, give other outputs for every
sequence but the first. A comparison with a reference shows that only where the reference does not leak too, so a file
is compared with itself.

A TFLite file whose card says that it is not stateful is never reset: its proof, like every measure, sees what an app
sees that calls it again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.flatbuffer_reader import keeps_variables
from edgekit.graph import ops
from edgekit.quality.cases import Case
from edgekit.quality.contents import may_write_buffers, operators
from edgekit.results.proof import CaseResult
from edgekit.types import Array, Artifact, Feed, Format

KIND = "state"
FEEDS = 3
"""Inputs that are run twice and in another order: enough for an order that is not a plain repetition."""
WHERE = "no layer, since the first run is right; state has to be an input and an output, or to start anew"
RULE = "call allocate_tensors() first, and reset_all_variables() between two sequences"
RESOURCES = "open the file anew for each sequence: reset_all_variables() leaves resource variables as they are"
LIMIT = 0.0
"""One file on one runtime, thread and process sums in one order: any difference is state."""
_RECURRENT = {format_: {op.full_name for op in ops.of(format_) if op.keeps_state} for format_ in Format}


def is_recurrent(artifact: Artifact) -> bool:
    """Whether the file holds a recurrent operator, a loop, or state of its own.

    Raises:
        ModelError: the file cannot be read.
    """
    if _RECURRENT[artifact.format] & set(operators(artifact)):
        return True
    return artifact.format is Format.PT2 and may_write_buffers(artifact.path)


def keeps_state(artifact: Artifact) -> bool | None:
    """Whether the state of a TFLite file's operators outlives a call; None for a file that holds no variables.

    The card of a file that edgekit made says it; any other file with variables keeps what it writes to them.

    Raises:
        ModelError: the file cannot be read.
    """
    if artifact.format is not Format.TFLITE:
        return None
    if artifact.card is not None and artifact.card.stateful is not None:
        return artifact.card.stateful
    return True if keeps_variables(artifact.path.read_bytes()) else None


def rule(kinds: Iterable[str]) -> str:
    """What an app has to do that runs a file which keeps its state; ``kinds``: the file's operators."""
    return RESOURCES if "ASSIGN_VARIABLE" in kinds else RULE


def has_recurrent_layers(module: Any) -> bool:
    """Whether a torch module has recurrent layers or cells, which a file may hold unrolled."""
    from torch import nn

    return any(isinstance(part, nn.RNNBase | nn.RNNCellBase) for part in module.modules())


def state_cases(run: Callable[[Feed], Mapping[str, Array]], cases: Iterable[Case]) -> tuple[CaseResult, ...]:
    """Two lines for the ledger: every input twice in a row, then all inputs in the reverse order.

    Args:
        run: the model, opened once.
        cases: the proof's; the first typical ones are taken, since zeros and extremes may hide a leak.
    """
    feeds = [case.feed for case in cases if case.typical][:FEEDS]
    first, again = [], []
    for feed in feeds:
        first.append(run(feed))
        again.append(run(feed))
    reverse = [run(feed) for feed in reversed(feeds)][::-1]
    return (
        _judged(first, again, "when the same input is run twice"),
        _judged(first, reverse, "when the inputs are run in another order"),
    )


def _judged(first: Sequence[Mapping[str, Array]], second: Sequence[Mapping[str, Array]], when: str) -> CaseResult:
    worst, name, cosine = 0.0, "", 1.0
    for one, other in zip(first, second, strict=True):
        for key, wanted in one.items():
            a, b = np.asarray(wanted, np.float64).ravel(), np.asarray(other[key], np.float64).ravel()
            gap = float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf
            gap = np.inf if np.isnan(gap) else gap
            if not name or gap > worst:
                worst, name = gap, key
                norm = float(np.linalg.norm(a) * np.linalg.norm(b)) if a.shape == b.shape else 0.0
                cosine = float(a @ b) / norm if norm > 0 else 1.0
    if worst <= LIMIT:
        return CaseResult(KIND, worst, LIMIT, cosine, name, True)
    reason = f"output {name!r} differs by {worst:.3g} {when}, so state is left over from the run before"
    return CaseResult(KIND, worst if np.isfinite(worst) else None, LIMIT, None, name, False, reason)
