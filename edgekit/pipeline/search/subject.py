"""What is optimized: a source, the float files of it, the samples, and what can be varied."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_model
from edgekit.bench.environment import environment
from edgekit.data.dataset import Dataset
from edgekit.devices import parse_device
from edgekit.environments import OPENVINO, TFLITE
from edgekit.errors import DeviceError, GateError, InputError, UsageError
from edgekit.locks import locked
from edgekit.models.family import Hyperparameters
from edgekit.options.optimize import OptimizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.finetune import finetune_options
from edgekit.pipeline.fitted import check_classes
from edgekit.pipeline.quantize.samples import fit_and_test
from edgekit.pipeline.recipe.contents import Contents, is_model
from edgekit.pipeline.search.candidate import FLOAT, Candidate, Making
from edgekit.pipeline.search.evidence import Judge, take_samples
from edgekit.pipeline.search.slow import slow_kinds
from edgekit.pipeline.search.space import Space, space_of
from edgekit.pipeline.search.steps import MadeFile, MakeOrder, make
from edgekit.quality.coverage import quantized_already
from edgekit.results.base import to_json
from edgekit.types import Network
from edgekit.version import __version__

log = logging.getLogger("edgekit")
_DECIDING = ("out", "trials", "hours", "jobs", "workers", "fresh", "max_ms", "max_bytes", "max_memory", "seconds")
"""Options that change no trial."""


class Subject:
    """What is optimized: its source, the float files of it, the samples, and what can be varied."""

    def __init__(self, options: OptimizeOptions, folder: Path) -> None:
        self.options, self.folder, self.store = options, folder, folder / "store"
        self.source = str(options.source)

    @cached_property
    def network(self) -> Network | None:
        """None of a finished file."""
        from edgekit.artifact import open_artifact
        from edgekit.errors import ModelError
        from edgekit.source import resolve

        if not is_model(self.source):
            network = resolve(self.source, factory=self.options.factory, weights=self.options.weights)
            check_classes(network, self.train)
            return network
        artifact = open_artifact(self.source)
        evidence = quantized_already(artifact)
        if evidence:
            raise ModelError(f"{self.source} is quantized already ({evidence}); give the float file it was made from")
        return None

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
        if is_model(self.source):
            return (Path(self.source).suffix.lower().removeprefix("."),)
        return tuple(dict.fromkeys(self.options.formats))

    @cached_property
    def space(self) -> Space:
        """What can be varied."""
        slow = {name: self._slow(name, made) for name, made in self.float_files.items()}
        return space_of(self.options, self.network, self.train, slow)

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
        return Making(self.source, self.options, teaches=teaches, lr=self.settings.lr)

    @property
    def stem(self) -> str:
        """What files are called after."""
        return Path(self.source).stem if self.network is None else self.network.name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that a trial depends on."""
        found, contents = environment(), Contents(runs=True)
        options = {name: value for name, value in self.options.given().items() if name not in (*_DECIDING, "source")}
        return {
            "edgekit": __version__, "versions": found["versions"], "machine": [found["cpu"], found["cores"]],
            "source": sha256_model(self.source) if self.network is None else contents.source(self.source),
            "data": contents.data(self.options.data), "options": to_json(options),
            "devices": [asdict(parse_device(name)) for name in self.options.on],
            "environments": {one.name: one.apart() for one in (TFLITE, OPENVINO)},
        }  # fmt: skip

    @cached_property
    def float_files(self) -> Mapping[str, MadeFile]:
        """Format -> the float file.

        Raises:
            EdgekitError: it can be exported to none of the formats.
        """
        if self.network is None:
            path = Path(self.source)
            return {self.formats[0]: MadeFile(path, sha256_model(path), path.stat().st_size)}
        found: dict[str, MadeFile] = {}
        refused: list[MadeFile] = []
        for name in self.formats:
            text = self._plainly.recipe(Candidate(name, FLOAT))
            made = make(MakeOrder(text, self.folder / "files" / f"float-{name}", self.store))
            if made.path is None:
                refused.append(made)
                log.warning("no .%s file: %s", name, made.why)
            else:
                found[name] = made
        if not found:
            kinds = {kind.exit_code: kind for kind in (GateError, UsageError, InputError, DeviceError)}
            raise kinds[refused[0].exit_code]("; ".join(dict.fromkeys(made.why for made in refused)))
        return found

    @cached_property
    def judge(self) -> Judge:
        """What judges files."""
        floats = {name: made.artifact for name, made in self.float_files.items()}
        card = next(iter(floats.values())).card
        return Judge(self.options, floats, take_samples(self.options, card, self.settings), self.folder)

    def order(self, candidate: Candidate, name: str) -> MakeOrder:
        """What makes ``candidate`` in a folder called ``name``."""
        return MakeOrder(self.making.recipe(candidate), self.folder / "files" / name, self.store)
