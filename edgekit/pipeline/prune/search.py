"""How much shall leave: as much as a budget asks for, or as a drop of quality allows."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import GateError, UnsupportedError, UsageError
from edgekit.leftovers import scratch_folder
from edgekit.models.checkpoint import save_checkpoint
from edgekit.pipeline.bench import bench
from edgekit.pipeline.export import export
from edgekit.pipeline.prune.trial import Job, PruneTrial, pass_of, run_trial
from edgekit.pruning.methods import Structured
from edgekit.results.eval import drop
from edgekit.types import Network, Quality

log = logging.getLogger("edgekit")
TRIALS = 5
"""Amounts that are tried for ``--max-drop``: after 5 halvings the answer is within 3% of what can leave."""
TIMED = 6
"""Amounts that are timed for ``--target-latency``: widths come in steps, so that more would be timed twice."""
SECONDS = 1.0
Found = list[dict[str, Any]]


def amount_for_macs(job: Job, target: int) -> float:
    """The amount that leaves at most ``target`` multiply-accumulates.

    Raises:
        UsageError: there are no more than that already.
        GateError: so few cannot be reached.
    """
    if target >= job.macs:
        raise UsageError(f"--target-macs is {target:,}, and the network has {job.macs:,} already; give less")
    amount = 1 - target / job.macs
    most = _most(job)
    if amount > most:
        raise GateError(
            f"--target-macs {target:,} cannot be reached: of {job.macs:,} at least {round((1 - most) * job.macs):,} "
            "stay; nothing is published. Give more, or --round-to 1"
        )
    return amount


def amount_for_latency(job: Job, target: float) -> tuple[float, Found]:
    """The least of the amounts tried with which a run takes at most ``target`` milliseconds, and what was timed.

    Before any fine-tuning: how long a run takes does not depend on what the weights are.

    Raises:
        UsageError: the network is that fast already.
        GateError: the smallest network is slower.
        DeviceError: the device cannot be used.
    """
    options = job.options
    found: Found = []

    def time_of(amount: float) -> float:
        network = job.network if amount == 0 else _only_pruned(job, amount)
        macs = network.card.steps[-1].params["macs_after"] if amount else job.macs
        earlier = [row["p50_ms"] for row in found if row["macs"] == macs]
        took = earlier[0] if earlier else timed(network, options.to, options.on)
        found.append({"amount": amount, "macs": macs, "p50_ms": took})
        fewer = 100 * (1 - macs / job.macs)
        log.info("%.0f%% fewer multiply-accumulates: %.4g ms (p50, %s on %s)", fewer, took, options.to, options.on)
        return took

    whole = time_of(0.0)
    if whole <= target:
        raise UsageError(f"--target-latency is {target:g} ms, and the network takes {whole:.4g} ms already; give less")
    high = _most(job)
    least = time_of(high)
    if least > target:
        raise GateError(
            f"--target-latency {target:g} ms cannot be reached: the smallest network still takes {least:.4g} ms "
            f"(the whole one {whole:.4g}); nothing is published. Give more, or --round-to 1"
        )
    return bisected(lambda amount: time_of(amount) <= target, 0.0, high, TIMED, least=True), found


def trial_within_drop(job: Job, before: Quality, limit: float, place: Path) -> tuple[PruneTrial, Found]:
    """The trial of the largest amount whose quality, after its fine-tuning, is within ``limit`` of ``before``.

    Raises:
        GateError: not even the smallest amount tried is.
    """
    found: Found = []
    best: list[PruneTrial] = []
    least: list[tuple[float, float]] = []  # what went and what was lost by it, of amounts that are too much
    work = place.with_name(f"{place.stem}.try{place.suffix}")
    keep = place.with_name(f"{place.stem}.best{place.suffix}")

    def fits(amount: float) -> bool:
        choice = _choice(job, amount)
        same = [row for row in found if choice is not None and row["choice"] == choice]
        if same:  # another amount, rounded to the network that was tried
            found.append({**same[0], "amount": amount})
            return bool(same[0]["drop"] <= limit)
        trial = run_trial(job, amount, work)
        assert trial.quality is not None
        lost = drop(before, trial.quality)
        found.append({"amount": amount, "value": trial.quality.value, "drop": lost, "choice": choice})
        params = trial.step.params
        gone = 1 - params["macs_after"] / params["macs_before"] if job.method.structured else amount
        log.info("%.0f%% asked for, %.1f%% gone: %s %.4g, drop %.4g (%.4g allowed)", 100 * amount, 100 * gone,
                 before.metric, trial.quality.value, lost, limit)  # fmt: skip
        if lost > limit:
            least.append((gone, lost))
            return False
        os.replace(work, keep)
        best[:] = [trial]
        return True

    try:
        bisected(fits, 0.0, _most(job) if job.method.structured else 0.99, TRIALS, least=False)
        if not best:
            gone, lost = min(least)
            what = "multiply-accumulates" if job.method.structured else "weights"
            raise GateError(
                f"--max-drop {limit:g} cannot be kept: the least that can leave is {gone:.1%} of the {what}, and the "
                f"drop is {lost:.4g} then; nothing is published. Allow more, or give --epochs"
            )
        os.replace(keep, place)
    finally:
        work.unlink(missing_ok=True)
        keep.unlink(missing_ok=True)
    (trial,) = best
    return PruneTrial(place, *(getattr(trial, name) for name in PruneTrial.__dataclass_fields__ if name != "path")), [
        {name: value for name, value in row.items() if name != "choice"} for row in found
    ]


def bisected(holds: Callable[[float], bool], low: float, high: float, times: int, *, least: bool) -> float:
    """Halves ``low`` .. ``high`` so many times; with ``least`` the smallest amount that holds is looked for (``high``
    does), else the largest (``low`` does). Assumes that it holds on one side of some amount only."""
    for _ in range(times):
        middle = (low + high) / 2
        if holds(middle) == least:
            high = middle
        else:
            low = middle
    return high if least else low


def _structured(job: Job, amount: float) -> Structured:
    """The pass of a structured method.

    Raises:
        UnsupportedError: it cannot say what leaves for an amount.
    """
    made = pass_of(job, job.network, amount)
    if not isinstance(made, Structured):
        raise UnsupportedError(f"--method {job.method.name} cannot say what an amount leaves; give --amount")
    return made


def _most(job: Job) -> float:
    """The largest amount that can leave."""
    return min(_structured(job, 0.5).most(job.network), 1.0) * (1 - 1e-9)  # rounding asks for no more


def _choice(job: Job, amount: float) -> Sequence[object] | None:
    """What leaves for ``amount``; None where that does not say all of the network."""
    if not job.method.structured or job.schedule.steps > 1:
        return None
    return _structured(job, amount).choice(job.network)


def _only_pruned(job: Job, amount: float) -> Network:
    made = pass_of(job, job.network, amount).run(job.network).model
    assert isinstance(made, Network)
    return made


def timed(network: Network, format_: str, on: str) -> float:
    """p50 of one run in milliseconds, of the exported file on the device ``on``.

    Raises:
        DeviceError: it cannot be timed there.
    """
    with scratch_folder() as folder:
        checkpoint = folder / "candidate.safetensors"
        save_checkpoint(network, checkpoint)
        (row,) = export(checkpoint, to=[format_], out=folder, name="candidate").artifacts
        result = bench([row.artifact.path], on=on, seconds=SECONDS)
        failure = result.failure()
        if failure is not None:
            raise failure
        took = result.results[0].latency().p50
    if took is None:
        raise GateError(f"too few runs in {SECONDS:g} s for a median; the network is too slow to be looked for so")
    return float(took)
