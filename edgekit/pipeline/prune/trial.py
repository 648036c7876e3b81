"""One pruning to a given amount, in one step or several, with its fine-tuning, as a checkpoint."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit import registry
from edgekit.data import Dataset
from edgekit.data.dataset import held_out_sets
from edgekit.errors import GateError, InputError, UsageError
from edgekit.models.checkpoint import save_checkpoint, weights_sha256
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import objective
from edgekit.models.samples import TrainingSamples
from edgekit.models.weight_norm import without_weight_norms
from edgekit.options.prune import PruneOptions
from edgekit.passes import Pass, with_params
from edgekit.pipeline.finetune import finetune_options
from edgekit.pipeline.prune.checks import Schedule
from edgekit.pipeline.train import hyperparameters, module_quality, source_name, train_network, training_versions
from edgekit.pruning.channels import examples
from edgekit.pruning.macs import layer_macs
from edgekit.pruning.methods import PruneRequest, PruningMethod, method
from edgekit.pruning.weights import kept_at_zero
from edgekit.results.train import Fit
from edgekit.source import resolve
from edgekit.types import Network, PassResult, Quality, Step

log = logging.getLogger("edgekit")
FEED = 256
"""Samples on which it is measured how far a block moves what goes through it."""
GRADIENT_BATCHES = 32
"""Batches over which Taylor's gradients are taken; Molchanov et al. (2019) use 10 to 30 between removals."""


@dataclass(frozen=True)
class Job:
    """What is pruned: the parent, the samples it recovers on, how, and the code that builds its network, where a
    checkpoint needs the user to name it."""

    network: Network
    samples: Dataset | None
    options: PruneOptions
    schedule: Schedule
    builder: str | None

    @property
    def method(self) -> PruningMethod:
        """How it is pruned."""
        return method(self.options.method)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the parent."""
        return sum(layer_macs(self.network.module, examples(self.network)).values())


@dataclass(frozen=True)
class PruneTrial:
    """One pruned network; ``step`` is the pruning as a whole."""

    path: Path
    network: Network
    step: Step
    after_pruning: Quality | None
    after_finetuning: Quality | None
    fit: Fit | None
    notes: tuple[str, ...]

    @property
    def quality(self) -> Quality | None:
        """As it is written."""
        return self.after_finetuning or self.after_pruning


def run_trial(job: Job, amount: float, place: Path) -> PruneTrial:
    """Prunes ``job.network`` by ``amount`` and writes ``place``, once all steps are done.

    Stopped in a later step, the same call goes on from the last finished one.

    Raises:
        UsageError, UnsupportedError: the amount cannot be reached, or nothing can leave.
        GateError: the fine-tuning diverged; nothing is written.
    """
    schedule, network = job.schedule, job.network
    notes: tuple[str, ...] = ()
    first: Step | None = None
    after, tuned, fit = None, None, None
    last_only = schedule.steps == 1 and job.method.structured
    works = [place if last_only else place.with_name(f"{place.stem}.step{k + 1}{place.suffix}")
             for k in range(schedule.steps)]  # fmt: skip
    for k, work in enumerate(works):
        made = _pruned(job, network, amount, k)
        pruned = made.model
        assert isinstance(pruned, Network)
        notes += tuple(note for note in made.notes if note not in notes)
        step = [step for step in pruned.card.steps if step.name == "prune"][-1]
        first = first or step
        log.info("%s", said(step))
        after = measured(pruned, job.samples)
        if schedule.epochs == 0:
            network = replace(pruned, card=replace(pruned.card, quality=() if after is None else (after,)))
            save_checkpoint(network, work)
        else:
            with _cleaned(works):
                network, tuned, fit = _tuned(job, pruned, work, k)
    assert first is not None
    if not last_only:
        os.replace(works[-1], place)
        for work in works[:-1]:
            work.unlink(missing_ok=True)
    return PruneTrial(place, network, _whole(first, network, amount), after, tuned, fit, notes)


def _share(job: Job, amount: float, k: int) -> float:
    """The share that has left after step ``k``: of channels the same factor a step; of weights Zhu & Gupta's cubic
    schedule (2017), fast at first and slow towards the end."""
    progress = (k + 1) / job.schedule.steps
    if job.method.structured:
        return float(1 - (1 - amount) ** progress)
    return float(amount * (1 - (1 - progress) ** 3))


def pass_of(job: Job, network: Network, amount: float) -> Pass:
    """The pass that prunes ``network`` by ``amount``, as the user asked for it."""
    plan = hyperparameters(finetune_options(network), 1, job.options.seed, {})

    def gradients() -> Mapping[str, Tensor] | None:
        wanted = job.options.importance == "taylor" and job.samples is not None
        return gradients_of(network, job.samples, plan) if wanted and job.samples is not None else None

    return job.method.make(PruneRequest(network, amount, job.options, gradients, partial(_inputs, job, network, plan)))


def _inputs(job: Job, network: Network, plan: Hyperparameters) -> Sequence[Tensor] | None:
    if job.samples is None or network.task.kind == "generation":
        return None
    picked = np.linspace(0, len(job.samples) - 1, min(FEED, len(job.samples))).astype(np.int64)
    loader = TrainingSamples(network, job.samples.subset(picked), replace(plan, validation=0.0))
    return list(next(loader.held_batches(FEED))[0])


def _pruned(job: Job, network: Network, amount: float, k: int) -> PassResult:
    share = _share(job, amount, k)
    if not job.method.structured:
        return pass_of(job, network, share).run(network)
    goal, now = (1 - share) * job.macs, sum(layer_macs(network.module, examples(network)).values())
    if k and goal >= now:  # rounded widths of an earlier step have saved it already
        return PassResult(network, False)
    return pass_of(job, network, share if k == 0 else 1 - goal / now).run(network)


def _tuned(job: Job, pruned: Network, work: Path, k: int) -> tuple[Network, Quality | None, Fit | None]:
    """The network after the fine-tuning of step ``k``, written to ``work``."""
    options, steps = job.options, job.schedule.steps
    assert job.samples is not None
    epochs = job.schedule.epochs // steps + (job.schedule.epochs % steps if k == steps - 1 else 0)
    plan = hyperparameters(finetune_options(pruned), epochs, options.seed, options.overrides, lr=options.lr)
    taught = _is_taught(pruned, options.distil)
    plan = plan if taught else replace(plan, distil=0.0)
    if plan.processes > 1 and not job.method.structured:
        raise UsageError("weights are kept at zero in one process only; leave --processes out")
    params = {
        "source": source_name(options.source),
        "parent_sha256": weights_sha256(job.network.module.state_dict()),
        "data": job.samples.label,
        "distil_from": source_name(options.source) if taught else None,
        "device": options.train_on,
        **asdict(plan),
    }
    tuning = Step("finetune", params, training_versions())
    if steps > 1:
        found = _finished(work, (*pruned.card.steps, tuning), job.builder)
        if found is not None:
            log.info("step %d of %d is done already: %s", k + 1, steps, work.name)
            return found, found.card.quality[0] if found.card.quality else None, None
    teacher = replace(job.network, module=copy.deepcopy(job.network.module)) if taught else None
    torch.manual_seed(options.seed)
    with nullcontext() if job.method.structured else kept_at_zero(pruned.module):
        trained = train_network(
            pruned, job.samples, plan, work, tuning, device=options.train_on, teacher=teacher, progress=options.progress
        )
    return trained.network, trained.quality, trained.training.fit


def _is_taught(network: Network, asked: bool | None) -> bool:
    """Whether the unpruned network teaches: a classifier unless that was declined, others where it was asked for.

    Raises:
        UsageError: it was asked for, and nothing says what is learned of a teacher's outputs.
    """
    kind = network.task.kind
    if asked and (kind not in registry.names("objectives") or objective(kind).soft is None):
        raise UsageError(f"--distil: a task of kind {kind!r} has no distillation; leave it out")
    return kind == "classification" if asked is None else asked


def _finished(work: Path, steps: tuple[Step, ...], builder: str | None) -> Network | None:
    """The network of an earlier run that did exactly ``steps``, if there is one."""
    if not work.is_file():
        return None
    try:
        found = resolve(str(work), factory=builder)
    except InputError as error:
        log.info("%s is done again: %s", work.name, error)
        return None
    same = [json.dumps([asdict(step) for step in row], sort_keys=True) for row in (found.card.steps, steps)]
    return found if same[0] == same[1] else None


@contextmanager
def _cleaned(works: list[Path]) -> Iterator[None]:
    """A training that failed leaves no file behind; one that was interrupted leaves its state, to go on from."""
    try:
        yield
    except GateError:
        for work in works:
            work.with_name(f"{work.stem}.resume{work.suffix}").unlink(missing_ok=True)
            if len(works) > 1:
                work.unlink(missing_ok=True)
        raise


def gradients_of(network: Network, samples: Dataset, options: Hyperparameters) -> Mapping[str, Tensor]:
    """Parameter name -> root mean square, over batches, of the gradient of the training loss."""
    module = copy.deepcopy(
        without_weight_norms(network.module)
    ).eval()  # statistics and dropout as they are when it is used
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    loader = TrainingSamples(network, samples, options)
    total: dict[str, Tensor] = {}
    count = 0
    for inputs, targets in loader.batches(0, options):
        module.zero_grad()
        outputs = loader.viewed(module(*inputs))
        loader.objective.loss(outputs, targets, inputs[0], options).backward()  # type: ignore[no-untyped-call]
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, torch.zeros_like(parameter.grad)) + parameter.grad.square()
        count += 1
        if count == GRADIENT_BATCHES:
            break
    return {name: (value / count).sqrt() for name, value in total.items()}


def measured(network: Network, samples: Dataset | None) -> Quality | None:
    """Quality on the test split; on what was given where it is not a train split."""
    if samples is None:
        return None
    return module_quality(network, held_out_sets(samples.name)[0] if samples.split == "train" else samples)


def _whole(first: Step, network: Network, amount: float) -> Step:
    """The first step's parameters with what the last one left."""
    last = [step for step in network.card.steps if step.name == "prune"][-1].params
    merged: dict[str, Any] = {"amount": amount}
    if "kept" in last:
        before = first.params["kept"]
        merged["kept"] = {name: [width, before[name][1]] for name, (width, _) in last["kept"].items()}
        merged |= {name: last[name] for name in ("macs_after", "parameters_after")}
    elif "blocks" in last:
        own = network.card.steps[network.card.steps.index(first) :]
        merged["blocks"] = [name for step in own if step.name == "prune" for name in step.params["blocks"]]
        merged |= {name: last[name] for name in ("macs_after", "parameters_after")}
    elif "zeros" in last:
        merged["zeros"] = last["zeros"]
    return with_params(first, **merged)


def said(step: Step) -> str:
    """A pruning in one line."""
    params = step.params
    if "zeros" in params:
        return f"made {params['zeros'] / params['weights']:.1%} of {params['weights']:,} weights zero"
    if "macs_after" not in params:
        return f"pruned by {params.get('method', step.name)}"
    share = 1 - params["macs_after"] / params["macs_before"]
    return (
        f"pruned {share:.1%} of {params['macs_before']:,} multiply-accumulates ({params['amount']:.0%} asked for), "
        f"{params['parameters_before']:,} -> {params['parameters_after']:,} parameters"
    )
