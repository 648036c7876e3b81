"""What can be varied of a source, and how a sampler or a hand proposes a candidate of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.documents import typed
from edgekit.errors import EdgekitError
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.quantize.program import SCHEME as PROGRAM_SCHEME
from edgekit.pipeline.search.candidate import FLOAT, ROUND_TO, Candidate, Groups
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.quantization.schemes import scheme, schemes
from edgekit.results.optimize import TrialRow
from edgekit.types import Format, Network

if TYPE_CHECKING:
    from edgekit.data.dataset import Dataset

log = logging.getLogger("edgekit")
SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Of the most that can leave: amounts that are tried, so that networks are shared between trials."""
SMALLER = (0.45, 0.75, 0.6)
"""Those that are tried first."""
MIXED = (20.0, 30.0)
"""Decibels to the float file's outputs that mixed precision has to reach."""
FEW_EPOCHS, MANY_EPOCHS, SEEN = 8, 80, 60_000
"""What is left of a network learns by steps, of which an epoch of a small data set has few."""
RATES = (1.0, 5.0)
"""Peak learning rates relative to that of ``finetune``: little or much has left."""
Parameters = Mapping[str, Any]


class Suggests(Protocol):
    """What proposes a value: Optuna's ``Trial``."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Proposes what was proposed."""

    known: Mapping[str, Any]

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.known[name]


@dataclass(frozen=True, slots=True)
class Space:
    """Of one source.

    Attributes:
        schemes: format -> the schemes of its files, the float file first.
        depth: the most that can leave with whole blocks; 0 where none can.
        widths: name of a group of layers -> the most that can leave with its channels.
        epochs: lengths of training, shortest first; empty where nothing is trained.
        qat: whether training may have the roundings in place.
        groups: the layers of each group.
        slow: format -> types of operators whose integer kernels were slower than the float ones on the device, with
            commas between; int8 is tried with and without them.
        calibrations: ways to find ranges, the first one before the others.
        only_rules: nothing is proposed but what :meth:`by_rule` gives, and every scheme is part of that from the
            beginning.
    """

    schemes: Mapping[str, tuple[str, ...]]
    slow: Mapping[str, str] = field(default_factory=dict)
    depth: float = 0.0
    widths: Mapping[str, float] = field(default_factory=dict)
    epochs: tuple[int, ...] = ()
    qat: bool = False
    groups: Groups = field(default_factory=Groups)
    calibrations: tuple[str, ...] = METHODS
    only_rules: bool = False

    def propose(self, trial: Suggests) -> Candidate:
        """A candidate of the values that ``trial`` chooses."""
        format_ = trial.suggest_categorical("format", tuple(self.schemes))
        how = trial.suggest_categorical(f"scheme.{format_}", self.schemes[format_])
        made = Candidate(format_, how)
        ours = format_ != Format.PTE  # ExecuTorch's quantizer finds ranges and operators itself
        if ours and how != FLOAT and scheme(how).calibrated:
            made = replace(made, calibration=trial.suggest_categorical("calibration", self.calibrations))
        if how == "int8" and self.slow.get(format_):
            kept = trial.suggest_categorical(f"slow_in_float.{format_}", (False, True))
            made = replace(made, keep_float=self.slow[format_] if kept else "")
        if ours and how == "int8" and not self.epochs and made.calibration == self.calibrations[0]:
            made = replace(made, mixed=trial.suggest_categorical("mixed", (0.0, *MIXED)))
            made = replace(made, keep_float="" if made.mixed else made.keep_float)  # it looks for what stays itself
        if not self.epochs:
            return made
        depth = trial.suggest_categorical("depth", SHARES) if self.depth else 0.0
        split = len(self.widths) > 1 and not depth and trial.suggest_categorical("by_group", (False, True))
        names = tuple(self.widths)[1:] if split else tuple(self.widths)[:1]
        shares = {name: trial.suggest_categorical(f"width.{name}", SHARES) for name in names}
        widths = {name: round(share * self.widths[name], 3) for name, share in shares.items() if share}
        epochs = trial.suggest_categorical("epochs", self.epochs) if depth or widths else 0
        rate = trial.suggest_categorical("rate", RATES) if epochs else 1.0
        qat = ours and how == "int8" and self.qat and trial.suggest_categorical("qat", (False, True))
        epochs = epochs or (self.epochs[0] if qat else 0)
        made = replace(made, depth=round(depth * self.depth, 3), widths=widths, epochs=epochs, rate=rate, qat=qat)
        return replace(made, calibration="") if qat else made

    @property
    def opening(self) -> list[Parameters]:
        """What is tried first: int8 in every format, with and without slow operators in float; every scheme where
        nothing is proposed after the rules."""
        return [
            self._plain(name, how, kept)
            for name, known in self.schemes.items()
            for how in known
            if how == "int8" or (self.only_rules and how != FLOAT)
            for kept in ((True, False) if how == "int8" and self.slow.get(name) else (False,))
        ]

    def by_rule(self, tried: Sequence[Candidate], rows: Sequence[TrialRow], allowed: float) -> Parameters | None:
        """What is to be tried next before a sampler is asked: the opening; where nothing is trained, other ranges and
        then mixed precision in place of files that lose too much; what was best so far on smaller networks; the other
        schemes. None after these.

        Args:
            tried: what was proposed before.
            rows: of the trials that have ended.
            allowed: the largest loss of quality.
        """
        wanted: list[Parameters] = [*self.opening]
        if not self.epochs:
            wanted += self._instead(rows, allowed)
        elif self.widths or self.depth:
            smaller = sum(bool(one.depth or one.widths) for one in tried)
            wanted += [self._smaller(*self._best(rows), share) for share in SMALLER[smaller : smaller + 1]]
        wanted += [self._plain(name, how) for name, known in self.schemes.items() for how in known if how != FLOAT]
        return next((one for one in wanted if self.propose(Fixed(one)) not in tried), None)

    def _instead(self, rows: Sequence[TrialRow], allowed: float) -> list[Parameters]:
        """What is tried where calibrated files lose too much: other ranges, and mixed precision where no ranges do."""
        ended: dict[tuple[str, str], list[tuple[Candidate, bool]]] = {}
        for row in rows:
            made = typed(Candidate, row.parameters, "a candidate")
            if row.state == "complete" and made.scheme != FLOAT and scheme(made.scheme).calibrated:
                drop = max((one.drop or 0.0 for one in row.evidence), default=0.0)
                ended.setdefault((made.format, made.scheme), []).append((made, drop <= allowed))
        found: list[Parameters] = []
        for (format_, how), tried in ended.items():
            if any(holds for _, holds in tried):
                continue
            plain = self._plain(format_, how, bool(tried[0][0].keep_float))
            found += [{**plain, "calibration": name} for name in self.calibrations]
            if how == "int8" and {one.calibration for one, _ in tried} >= set(self.calibrations):
                mixed = max(one.mixed for one, _ in tried)
                found += [{**plain, "mixed": level} for level in MIXED if level > mixed][:1]
        return found

    def _best(self, rows: Sequence[TrialRow]) -> tuple[str, str, bool]:
        """Format and scheme of the fastest file so far, and whether slow operators stay in float there; the first
        format's float file where none was made."""
        good = [row for row in rows if row.state == "complete" and row.evidence]
        if not good:
            return next(iter(self.schemes)), FLOAT, False
        best = min(good, key=lambda row: row.evidence[0].ratio).parameters
        return str(best["format"]), str(best["scheme"]), bool(best["keep_float"])

    def _plain(self, format_: str, how: str, kept: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {"format": format_, f"scheme.{format_}": how, "qat": False}
        found |= {"calibration": self.calibrations[0], f"slow_in_float.{format_}": kept, "mixed": 0.0}
        found |= {"depth": 0.0} if self.depth else {}
        found |= {"by_group": False} if len(self.widths) > 1 else {}
        return found | {f"width.{name}": 0.0 for name in self.widths}

    def _smaller(self, format_: str, how: str, kept: bool, share: float) -> dict[str, Any]:
        found = self._plain(format_, how, kept)
        found |= {f"width.{name}": share for name in tuple(self.widths)[:1]}
        if not self.widths:
            found["depth"] = share
        return found | {"epochs": self.epochs[-1], "rate": RATES[-1] if share > 0.5 else RATES[0]}


def schemes_of(format_: str) -> tuple[str, ...]:
    """Names of the schemes of a format, those of plug-ins too."""
    if format_ == Format.PTE:
        return (PROGRAM_SCHEME,)
    return tuple(one.name for one in schemes(Format(format_)))


def space_of(options: OptimizeOptions, network: Network | None, samples: Dataset, slow: Mapping[str, str]) -> Space:
    """What can be varied. ``network``: None for a finished file; ``samples``: what it would be trained on; ``slow``:
    as in :class:`Space`, of each format that is tried."""
    whole = () if network is None else (FLOAT,)
    space = Space({name: (*whole, *schemes_of(name)) for name in slow}, slow)
    longest = longest_training(options.epochs, len(samples))
    if network is None or not longest or not _is_trainable(network, samples):
        return space
    epochs = tuple(sorted({max(1, longest // 4), max(1, longest // 2), longest}))
    widths, groups = _widths(network)
    return replace(
        space,
        depth=_most(network, "blocks"),
        widths=widths,
        groups=groups,
        epochs=epochs,
        qat=network.task.kind == "classification",
    )


def longest_training(asked: int | None, samples: int) -> int:
    """Epochs of the longest training: as asked; without that so many that :data:`SEEN` samples are seen, in
    :data:`FEW_EPOCHS` to :data:`MANY_EPOCHS`."""
    return min(max(FEW_EPOCHS, SEEN // max(samples, 1)), MANY_EPOCHS) if asked is None else asked


def _is_trainable(network: Network, samples: Dataset) -> bool:
    """Whether ``network`` can be trained on ``samples``: it is torch's, and they say what is right."""
    from edgekit.source.foreign import require_torch

    try:
        require_torch(network, "train")
    except EdgekitError as error:
        log.info("nothing is pruned or trained: %s", error)
        return False
    return samples.labels is not None or samples.targets is not None or network.task.kind in ("anomaly", "generation")


def _pass(network: Network, method_name: str) -> Any:
    from edgekit.options.prune import PruneOptions
    from edgekit.pruning.methods import PruneRequest, method

    asked = PruneOptions("source", method=method_name, round_to=ROUND_TO, amount=0.5, out="x.safetensors")
    return method(method_name).make(PruneRequest(network, 0.5, asked, lambda: None, lambda: None))


def _most(network: Network, method_name: str) -> float:
    """The most that can leave by a method; 0 where nothing can."""
    try:
        return float(min(_pass(network, method_name).most(network), 0.95))
    except EdgekitError as error:
        log.info("no %s leave: %s", method_name, error)
        return 0.0


def _widths(network: Network) -> tuple[dict[str, float], Groups]:
    """``all``, and where there are several groups of channels ``early`` and ``late`` layers, with the most that can
    leave of each."""
    from edgekit.converters.base import own_prefix

    most = _most(network, "channels")
    if not most:
        return {}, Groups()
    budget, _ = _pass(network, "channels").budget(network)
    prefix = own_prefix(budget.module)
    found = [tuple(name.removeprefix(prefix) for name, side in one.units[0] if side != "in") for one in budget.groups]
    places = {name: place for place, name in enumerate(budget.macs)}
    order = sorted(range(len(found)), key=lambda k: min((places.get(prefix + n, 0) for n in found[k]), default=0))
    if len(order) < 4 or not all(found):
        return {"all": most}, Groups()
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    groups = Groups(
        {name: tuple(found[k][0] for k in half) for name, half in zip(("early", "late"), halves, strict=True)}
    )
    widths = {"all": most}
    for name in groups.layers:
        kept = replace(_pass(network, "channels"), keep=groups.but(name))
        try:
            widths[name] = float(min(kept.most(network), 0.95))
        except EdgekitError as error:
            log.info("widths are not cut by group: %s", error)
            return {"all": most}, Groups()
    return widths, groups
