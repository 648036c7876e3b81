"""The step ``fits`` of recipes: a file that is larger than ``max-bytes`` goes no further."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import EdgekitError, GateError
from edgekit.options.base import Options, option, with_options
from edgekit.pipeline.steps import StepKind
from edgekit.results.base import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class FitsOptions(Options):
    """What the step takes (``model``), and its options."""

    model: str | Path = field(kw_only=False, metadata=option("A model file.", takes="model"))
    max_bytes: int = field(metadata=option("Largest file that passes.", metavar="N", at_least=1))


@dataclass(frozen=True)
class FitsResult(Result):
    """The keys of the step's JSON document; :meth:`failure` is its gate."""

    bytes: int
    max_bytes: int

    def failure(self) -> EdgekitError | None:
        if self.bytes <= self.max_bytes:
            return None
        return GateError(f"the file has {self.bytes:,} bytes, more than --max-bytes {self.max_bytes:,}")


@with_options(FitsOptions)
def fits(options: FitsOptions) -> FitsResult:
    """Compares the size of a file with the largest that passes."""
    return FitsResult(Path(options.model).stat().st_size, options.max_bytes)


STEP = StepKind(FitsOptions, "edgekit_example.step:fits")
