"""What is optimized: a source, the float files of it, the samples, and what can be varied."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_model, size_bytes
from edgekit.bench.environment import environment
from edgekit.data.dataset import Dataset
from edgekit.devices import parse_device
from edgekit.environments import EXECUTORCH, OPENVINO, TFLITE
from edgekit.errors import DeviceError, GateError, InputError, UsageError
from edgekit.locks import locked
from edgekit.models.family import Hyperparameters
from edgekit.options.optimize import OptimizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.finetune import finetune_options
from edgekit.pipeline.fitted import check_classes
from edgekit.pipeline.quantize.samples import fit_and_test
from edgekit.pipeline.recipe.contents import Contents
from edgekit.pipeline.search.candidate import FLOAT, LEARNT, LEAST_SNR, Candidate, Making
from edgekit.pipeline.search.evidence import FAR_OFF, Judge
from edgekit.pipeline.search.samples import take_samples
from edgekit.pipeline.search.slow import slow_kinds
from edgekit.pipeline.search.sources import float_files, formats_of
from edgekit.pipeline.search.space import Space, schemes_of, space_of
from edgekit.pipeline.search.steps import MadeFile, MakeOrder, make
from edgekit.quality.state import has_recurrent_layers
from edgekit.results.base import to_json
from edgekit.types import Artifact, Card, Format, Network
from edgekit.usercode import is_code
from edgekit.version import __version__

log = logging.getLogger("edgekit")
_DECIDING = ("out", "trials", "hours", "jobs", "workers", "fresh", "max_ms", "max_bytes", "max_memory", "seconds")
"""Options that change no trial."""


@dataclass(frozen=True)
class SmallStudy:
    """How a study that follows rules alone differs from a search.

    Attributes:
        calibration: the one way to find ranges; None: all.
        floor: decibels to the float file's outputs that every quantized file has to reach.
        slowest: a file whose shortest call takes this many times the float file's is left.
        labelled: the samples have to say what is right.
    """

    calibration: str | None = None
    floor: float | None = None
    slowest: float = FAR_OFF
    labelled: bool = False


class Subject:
    """What is optimized: its source, the float files of it, the samples, and what can be varied."""

    def __init__(self, options: OptimizeOptions, folder: Path, small: SmallStudy | None = None) -> None:
        self.options, self.small = options, small
        self.put_into(folder)
        self.sources = tuple(map(str, given if isinstance(given := options.source, tuple | list) else (given,)))
        self.source = ", ".join(self.sources)

    def put_into(self, folder: Path) -> None:
        """From now on its files lie in ``folder``."""
        self.folder, self.store = folder, folder / "store"

    @cached_property
    def files(self) -> Mapping[str, Artifact]:
        """Format -> the finished file that was given; empty of a network."""
        return float_files(self.sources, self.options.factory, self.options.io_file)

    @cached_property
    def network(self) -> Network | None:
        """None of finished files."""
        from edgekit.source import resolve

        if self.files:
            return None
        network = resolve(self.source, factory=self.options.factory, weights=self.options.weights)
        check_classes(network, self.train)
        return network

    @cached_property
    def train(self) -> Dataset:
        """The samples that are trained on."""
        train, _ = fit_and_test(self.options.data, [])
        assert train is not None
        return train

    @cached_property
    def settings(self) -> Hyperparameters:
        """How it is trained further."""
        return Hyperparameters() if self.network is None else finetune_options(self.network, self.train.kind)

    @property
    def formats(self) -> tuple[str, ...]:
        """Those of the files that were given; of a network those that were asked for, or all that can be made here: a
        recurrent one is unrolled for .pte, which takes minutes, so that this is done only where it is asked for."""
        if self.files or self.network is None:
            return tuple(self.files)
        known = formats_of(self.options)
        if self.options.formats or not has_recurrent_layers(self.network.module):
            return known
        return tuple(name for name in known if name != Format.PTE)

    @cached_property
    def space(self) -> Space:
        """What can be varied."""
        slow = {name: self._slow(name, made) for name, made in self.float_files.items()}
        found = space_of(self.options, self.network, self.train, slow)
        learnt = any(card is not None and card.ranges is not None for card in self._cards)
        found = replace(found, calibrations=(*((LEARNT,) if learnt else ()), *found.calibrations))
        if self.small is None:
            return found
        return replace(found, only_rules=True, calibrations=(
            found.calibrations if self.small.calibration is None else (self.small.calibration,)
        ))  # fmt: skip

    @property
    def _cards(self) -> list[Card | None]:
        return [made.artifact.card for made in self.float_files.values()]

    def _slow(self, name: str, made: MadeFile) -> str:
        """Types of operators that int8 should leave in float on the first device, as its kernels were timed; they are
        timed once for a study."""
        place = self.folder / f"slow-{name}.json"
        with locked(self.folder / "slow.lock"):
            if not place.exists():
                found = slow_kinds(made, self.options)
                with publishing(place) as temporary:
                    temporary.write_text(json.dumps(found), encoding="utf-8")
            return str(json.loads(place.read_text(encoding="utf-8")))

    @cached_property
    def making(self) -> Making:
        """What recipes have in common."""
        return replace(self._plainly, groups=self.space.groups)

    @cached_property
    def _plainly(self) -> Making:
        """The same for recipes that prune nothing."""
        teaches = self.network is not None and self.network.task.kind == "classification"
        io_file = {} if self.options.io_file is None else {"io-file": str(self.options.io_file)}
        metric = {} if self.options.metric is None else {"metric": self.options.metric}
        floor = LEAST_SNR if self.small is None or self.small.floor is None else self.small.floor
        return Making(
            {name: str(file.path) for name, file in self.files.items()} or self.source, self.options,
            teaches=teaches, lr=self.settings.lr, floor=floor, quantize=io_file | metric,
        )  # fmt: skip

    @property
    def stem(self) -> str:
        """What files are called after."""
        return Path(self.sources[0]).stem if self.network is None else self.network.name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that a trial depends on."""
        found, contents = environment(), Contents(runs=True)
        options = {name: value for name, value in self.options.given().items() if name not in (*_DECIDING, "source")}
        return {
            "edgekit": __version__, "versions": found["versions"], "machine": [found["cpu"], found["cores"]],
            "source": [sha256_model(file.path) for file in self.files.values()] or contents.source(self.source),
            "schemes": {name: schemes_of(name) for name in self.formats},
            "rules": None if self.small is None else asdict(self.small),
            "data": contents.data(self.options.data), "options": to_json(options),
            "files": {name: contents.file(str(path)) for name, path in self._beside.items()},
            "devices": [asdict(parse_device(name)) for name in self.options.on],
            "environments": {one.name: one.apart() for one in (TFLITE, OPENVINO, EXECUTORCH)},
        }  # fmt: skip

    @property
    def _beside(self) -> Mapping[str, str | Path]:
        """Files besides source and data that a trial depends on, by what they are."""
        asked, saved = self.options, "" if self.small is None else self.small.calibration or ""
        found: dict[str, str | Path | None] = {
            "io": asked.io_file, "weights": asked.weights, "ranges": saved if saved.endswith(".json") else None,
            "metric": asked.metric.rpartition(":")[0] if asked.metric is not None and is_code(asked.metric) else None,
        }  # fmt: skip
        return {name: path for name, path in found.items() if path is not None}

    @cached_property
    def float_files(self) -> Mapping[str, MadeFile]:
        """Format -> the float file.

        Raises:
            EdgekitError: it can be exported to none of the formats.
        """
        if self.files:
            return {name: MadeFile(file.path, sha256_model(file.path), size_bytes(file.path), card=file.card)
                    for name, file in self.files.items()}  # fmt: skip
        found = {name: made for name, made in self._exports.items() if made.path is not None}
        refused = [made for made in self._exports.values() if made.path is None]
        if not found:
            kinds = {kind.exit_code: kind for kind in (GateError, UsageError, InputError, DeviceError)}
            raise kinds[refused[0].exit_code]("; ".join(dict.fromkeys(made.why for made in refused)))
        return found

    @cached_property
    def _exports(self) -> Mapping[str, MadeFile]:
        """Of a network, what exporting it to each format gave."""
        found: dict[str, MadeFile] = {}
        for name in self.formats:
            text = self._plainly.recipe(Candidate(name, FLOAT))
            found[name] = make(MakeOrder(text, self.folder / "files" / f"float-{name}", self.store))
            if found[name].path is None:
                log.warning("no .%s file of %s: %s", name, self.source, found[name].why)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: of the samples, of a format or a runtime that nothing was tried in."""
        unmade = () if self.files else tuple(
            f"no .{name} file of {self.source}: {made.why}" for name, made in self._exports.items() if made.path is None
        )  # fmt: skip
        return tuple(dict.fromkeys((*self.judge.samples.notes, *unmade, *self.judge.notes)))

    @cached_property
    def judge(self) -> Judge:
        """What judges files."""
        floats = {name: made.artifact for name, made in self.float_files.items()}
        held = self.settings.validation if self.network is not None and self.options.epochs != 0 else None
        samples = take_samples(
            self.options.data, self._cards[0], self.options.limit, held=held, seed=self.options.seed,
            labelled=self.small is not None and self.small.labelled,
        )  # fmt: skip
        return Judge(self.options, floats, samples, self.folder, FAR_OFF if self.small is None else self.small.slowest)

    def order(self, candidate: Candidate, name: str) -> MakeOrder:
        """What makes ``candidate`` in a folder called ``name``."""
        return MakeOrder(self.making.recipe(candidate), self.folder / "files" / name, self.store)
