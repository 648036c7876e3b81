"""A candidate: what is done to a network until it is a file, as values that a sampler proposes and as a recipe."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.quantize.samples import train_split
from edgekit.pipeline.search.samples import MOST
from edgekit.types import Format

FLOAT = "float"
LEARNT = "learnt"
"""The ranges that a file carries from quantization-aware training."""
ROUND_TO = 8
LEAST_SNR = 1.0
"""Decibels below which a quantized file is noise; what it may lose is for the study to judge."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to make a file.

    Attributes:
        format, scheme: ``tflite``, ``int8``; :data:`FLOAT` as the network is exported.
        calibration: how ranges are found, of schemes that need them; :data:`LEARNT`, or a saved file of them.
        depth: share of the multiply-accumulates that leaves with whole residual blocks.
        widths: name of a group of layers -> the share that leaves with channels, hidden units or heads of it.
        epochs: of training after that, the whole network teaching where its task can; 0: none.
        rate: peak learning rate relative to that of ``finetune``.
        qat: with the roundings of int8 in place.
        keep_float: operators that stay in float.
        mixed: decibels to the float file's outputs, until which the operators that lose most stay in float; 0: no
            operator for that reason.
    """

    format: str
    scheme: str
    calibration: str = ""
    depth: float = 0.0
    widths: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    rate: float = 1.0
    qat: bool = False
    keep_float: str = ""
    mixed: float = 0.0

    @property
    def exported(self) -> str:
        """What the network is exported to: a ``.pte`` of fewer bits is quantized from the program, a ``.pt2``."""
        return Format.PT2 if self.format == Format.PTE and self.scheme != FLOAT else self.format

    @property
    def name(self) -> str:
        """``tflite int8 mse, blocks 27%, widths 32%, 8 epochs``."""
        what = (
            self.format,
            self.scheme,
            PurePath(self.calibration).name,
            f"mixed {self.mixed:g} dB" if self.mixed else "",
        )
        parts = [" ".join(part for part in what if part)]
        parts += [f"blocks {self.depth:.0%}"] if self.depth else []
        parts += [f"{'widths' if name == 'all' else name} {share:.0%}" for name, share in self.widths.items()]
        parts += [f"{self.epochs} epochs{' qat' if self.qat else ''}"] if self.epochs else []
        parts += [f"{self.keep_float.count(',') + 1} in float"] if self.keep_float else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Groups:
    """What a network can lose: ``layers`` of each group by name, to be kept where another group is pruned."""

    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def but(self, name: str) -> tuple[str, ...]:
        """The layers of all other groups."""
        return tuple(layer for other, layers in self.layers.items() if name in self.layers and other != name
                     for layer in layers)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Making:
    """What the recipes of a study have in common.

    Attributes:
        source: as the recipe names it; of finished files by their format.
        groups: of its layers.
        teaches: whether the whole network can teach what is left of it.
        lr: peak learning rate of ``finetune`` without one; 0 where nothing is trained.
        floor: decibels to the float file's outputs that every quantized file has to reach.
        quantize: what every step ``quantize`` has besides.
    """

    source: str | Mapping[str, str]
    options: OptimizeOptions
    groups: Groups = field(default_factory=Groups)
    teaches: bool = False
    lr: float = 0.0
    floor: float = LEAST_SNR
    quantize: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, candidate: Candidate) -> str:
        """The recipe (TOML) whose last step writes the file of ``candidate``."""
        steps = list(self._steps(candidate))
        lines = [
            f"# {candidate.name}",
            "#",
            f"#     cd {shlex.quote(os.getcwd())}",
            "#     edgekit recipe run THIS.toml",
        ]
        source = self.source if isinstance(self.source, str) else self.source[candidate.format]
        lines += ["", f"source = {json.dumps(source)}", f"data = {json.dumps(self.options.data)}"]
        for step in steps:
            lines += ["", "[[step]]", *(f"{key} = {json.dumps(value)}" for key, value in step.items())]
        return "\n".join(lines) + "\n"

    def _steps(self, candidate: Candidate) -> Iterator[dict[str, Any]]:
        """The steps, each from the one before."""
        options = self.options
        first: dict[str, Any] = {"factory": options.factory} if options.factory else {}
        first |= {"weights": str(options.weights)} if options.weights else {}
        train = train_split(options.data)
        fit = {"data": train} if train != options.data else {}  # never the split that is reported
        smaller = bool(candidate.depth or candidate.widths)
        if candidate.depth:
            yield {"do": "prune", "name": "depth", "method": "blocks", "amount": candidate.depth, "epochs": 0, **fit,
                   **first}  # fmt: skip
            first = {}
        for name, share in candidate.widths.items():
            kept = self.groups.but(name)
            keep = {"keep": list(kept)} if kept else {}
            yield {"do": "prune", "name": f"width-{name}", "amount": share, "round-to": ROUND_TO, "epochs": 0, **keep,
                   **fit, **first}  # fmt: skip
            first = {}
        if candidate.epochs:
            rate = {} if candidate.rate == 1 or candidate.qat else {"lr": round(self.lr * candidate.rate, 6)}
            teacher: dict[str, Any] = {"distil-from": self.source} if self.teaches and smaller else {}
            teacher |= {"teacher-factory": options.factory} if teacher and options.factory else {}
            qat = {"qat": True} if candidate.qat else {}
            yield {"do": "finetune", "name": "tuned", "epochs": candidate.epochs, "seed": options.seed, **fit, **rate,
                   **qat, **teacher, **first}  # fmt: skip
            first = {}
        if isinstance(self.source, str):
            yield {"do": "export", "name": "float", "to": candidate.exported, **first}
        if candidate.scheme != FLOAT:
            yield {
                "do": "quantize", "name": "small", "scheme": candidate.scheme, "seconds": 0, "allow-slower": True,
                "limit": self.options.limit or MOST, "min-snr": max(candidate.mixed, self.floor),
                **({"calibration": candidate.calibration} if candidate.calibration not in ("", LEARNT) else {}),
                **({"samples": options.samples} if options.samples else {}),
                **({"keep-float": candidate.keep_float} if candidate.keep_float else {}),
                **self.quantize, **({"mixed": True} if candidate.mixed else {}),
            }  # fmt: skip
