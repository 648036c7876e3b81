"""The verb: what was asked for, the trial that does it, the gate, the result."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_file
from edgekit.data import Dataset, open_data
from edgekit.errors import QualityError
from edgekit.options.base import with_options
from edgekit.options.prune import PruneOptions
from edgekit.outputs import as_file
from edgekit.passes import with_params
from edgekit.pipeline.fitted import check_classes, fitted_to
from edgekit.pipeline.meaning import told
from edgekit.pipeline.prune.checks import check
from edgekit.pipeline.prune.result import result_of
from edgekit.pipeline.prune.search import amount_for_latency, amount_for_macs, trial_within_drop
from edgekit.pipeline.prune.trial import Job, PruneTrial, measured, run_trial
from edgekit.pipeline.train import SUFFIX, checkpoint_path
from edgekit.results.eval import drop
from edgekit.results.train import CheckpointFile, PruneResult
from edgekit.source import builder_of, resolve
from edgekit.source.foreign import require_torch
from edgekit.types import Network, Quality

log = logging.getLogger("edgekit")


@with_options(PruneOptions)
def prune(options: PruneOptions) -> PruneResult:
    """Prunes a network and writes a checkpoint.

    ``amount`` is of ``channels`` and ``blocks`` the share of the multiply-accumulates to remove (widths are rounded and
    blocks leave whole, so more may leave; the result says how much), of ``magnitude`` the share of the weights to make
    zero. Without ``data`` the network is pruned only.

    Raises:
        UsageError: an amount that makes no sense or cannot be reached; epochs without data.
        UnsupportedError: a network that cannot be traced, or has nothing to prune.
        GateError: a target or drop cannot be kept, or the fine-tuning diverged.
        SourceError, DataError, DeviceError: as :func:`edgekit.pipeline.finetune.finetune`.
    """
    schedule, place, source = check(options), checkpoint_path(options.out), str(options.source)
    network = resolve(source, factory=options.factory, weights=options.weights)
    require_torch(network, "prune")
    network = told(network, options.io_file, options.task)
    samples = None if options.data is None else open_data(options.data, default_split="train")
    if samples is not None:
        network = _fitted(network, samples)
    before = measured(network, samples)
    with as_file(place, SUFFIX) as file:
        job = Job(network, samples, options, schedule, builder_of(source, options.factory))
        trial, candidates = _made(job, before, file)
        size, digest = file.stat().st_size, sha256_file(file)
    step = with_params(trial.step, steps=schedule.steps)
    written = CheckpointFile(path=place, bytes=size, sha256=digest)
    return result_of(written, network, trial, step, before, candidates)


def _made(job: Job, before: Quality | None, place: Path) -> tuple[PruneTrial, list[Mapping[str, Any]]]:
    """The trial that keeps the budget, written to ``place``, and the candidates looked at for it."""
    options, amount = job.options, job.schedule.amount
    found: list[Mapping[str, Any]] = []
    if options.target_macs is not None:
        amount = amount_for_macs(job, options.target_macs)
    elif options.target_latency is not None:
        amount, timed = amount_for_latency(job, options.target_latency)
        found += timed
    if amount is None:
        assert before is not None and options.max_drop is not None
        trial, tried = trial_within_drop(job, before, options.max_drop, place)
        return trial, [*found, *tried]
    if options.max_drop is None:
        return run_trial(job, amount, place), found
    work = place.with_name(f"{place.stem}.try{place.suffix}")
    try:
        trial = run_trial(job, amount, work)
        assert before is not None and trial.quality is not None
        lost = drop(before, trial.quality)
        if not lost <= options.max_drop:
            raise QualityError(
                f"{before.metric} went from {before.value:.4g} to {trial.quality.value:.4g}, a drop of {lost:.4g}, and "
                f"--max-drop allows {options.max_drop:g}; nothing is published. Prune less, fine-tune for more epochs, "
                "or leave --amount out to have as much taken as stays within the drop"
            )
        work.replace(place)
    finally:
        work.unlink(missing_ok=True)
    return replace(trial, path=place), found


def _fitted(network: Network, samples: Dataset) -> Network:
    """``network`` with the contract and class names that the data imply where it has none of its own.

    Raises:
        DataError: the network has other classes than the data.
    """
    check_classes(network, samples)
    return fitted_to(network, samples)
