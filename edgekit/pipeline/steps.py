"""The verbs that can be steps of a recipe: their options, and the function that does them, imported when it is called.

Third parties add a :class:`StepKind` with an entry point of the group ``edgekit.steps``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from edgekit.options.base import Options
from edgekit.options.bench import BenchOptions
from edgekit.options.export import ExportOptions
from edgekit.options.measure import EvalOptions, VerifyOptions
from edgekit.options.package import PackageOptions
from edgekit.options.prune import PruneOptions
from edgekit.options.quantize import QuantizeOptions
from edgekit.options.train import FinetuneOptions, TrainOptions
from edgekit.results.base import Result


@dataclass(frozen=True, slots=True)
class StepKind:
    """A verb as a step.

    Attributes:
        options: its options. One of its arguments says what it takes, ``out`` what it hands on.
        function: ``module:name`` of a function that takes the fields of ``options`` as keywords; its result is
            a :class:`edgekit.results.base.Result`, with ``artifacts`` where it hands on ``files``, an ``artifact``
            where it hands on a ``file``.
    """

    options: type[Options]
    function: str

    def run(self, **options: Any) -> Result:
        """Does it; ``options`` by the names of the fields."""
        module, _, name = self.function.partition(":")
        result = getattr(importlib.import_module(module), name)(**options)
        assert isinstance(result, Result), f"{self.function} gave a {type(result).__name__}"
        return result


TRAIN = StepKind(TrainOptions, "edgekit.pipeline.train:train")
FINETUNE = StepKind(FinetuneOptions, "edgekit.pipeline.finetune:finetune")
PRUNE = StepKind(PruneOptions, "edgekit.pipeline.prune:prune")
EXPORT = StepKind(ExportOptions, "edgekit.pipeline.export:export")
QUANTIZE = StepKind(QuantizeOptions, "edgekit.pipeline.schemes:quantize")
VERIFY = StepKind(VerifyOptions, "edgekit.pipeline.verify:verify")
EVAL = StepKind(EvalOptions, "edgekit.pipeline.evaluate:evaluate")
PACKAGE = StepKind(PackageOptions, "edgekit.pipeline.package:package")
BENCH = StepKind(BenchOptions, "edgekit.pipeline.bench:bench")
