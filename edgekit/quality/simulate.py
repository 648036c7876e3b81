"""What quantizing some operators of a file costs, told by its float parent with the file's own steps switched on.

No file is made for it: the parent runs once a question, with what these operators read and write rounded as the file
rounds it, and with the file's constants. An operator on integers gives integers, so what it writes is rounded, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edgekit.devices import open_runner
from edgekit.leftovers import scratch_folder
from edgekit.quality.as_app import Call, finite_where
from edgekit.quality.fidelity import Fidelity, FidelityMeter
from edgekit.quality.readings import Pair, Steps, switch
from edgekit.types import Array


class Simulation:
    """A pair with switches, open in a worker; a context manager.

    Args:
        calls: samples with what the parent gives.
    """

    def __init__(self, pair: Pair, calls: Sequence[Call]) -> None:
        self.pair, self.calls = pair, calls
        held = {one.operator for one in pair.constants if not one.graph and np.any(one.allowed)}
        self.integers = tuple(
            number for number, one in enumerate(pair.operators) if one.integers or one.inexact or number in held
        )
        self._writer = {key: number for number, one in enumerate(pair.operators) for key in one.outputs}
        self._stack = ExitStack()
        self._steps: dict[int, Steps] = {}

    def __enter__(self) -> Self:
        with self._stack:
            folder = self._stack.enter_context(scratch_folder())
            self._steps = self._all_steps(folder)
            path = folder / f"simulated.{self.pair.suffix}"
            path.write_bytes(self.pair.simulated(self._steps))
            self._runner = self._stack.enter_context(open_runner(path, carded=False))
            self._names = [spec.name for spec in self._runner.signature.inputs if spec.name.startswith("on/")]
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def fidelity(self, operators: Collection[int], calls: Sequence[Call] | None = None) -> Fidelity:
        """The outputs with these operators quantized, beside the parent's; on all samples, or on those given."""
        pair, on = self.pair, set(operators)
        active = {
            switch("reading", number)
            for number in self._steps
            if pair.readings[number].operator in on or self._writer.get(pair.readings[number].tensor) in on
        }
        active |= {
            switch("constant", k) for k, one in enumerate(pair.constants) if not one.graph and one.operator in on
        }
        switches = {name: np.array([name in active]) for name in self._names}
        meter = FidelityMeter(pair.suffix == "tflite")
        for call in self.calls if calls is None else calls:
            outputs = self._runner.run({**pair.cut_feed(call.feed, {}), **switches})
            found = self._results(call, outputs, on)
            meter.add(*finite_where(Call(call.feed, call.wanted, found), "a sample"))
        return meter.result()

    def _results(self, call: Call, outputs: dict[str, Array], on: set[int]) -> dict[str, Array]:
        named = set(self.pair.results) == set(call.wanted)
        found = {}
        for (name, (key, _, steps)), user in zip(self.pair.results.items(), call.wanted, strict=True):
            value = outputs[key]
            if steps is not None and self._writer.get(key) in on:
                value = steps.nearest(value).astype(np.float32)
            found[name if named else user] = value
        return found

    def _all_steps(self, folder: Path) -> dict[int, Steps]:
        """Those of the file, and for operators that quantize what they read as they run, those of the first sample."""
        pair = self.pair
        known = {number: one.steps for number, one in enumerate(pair.readings) if one.steps is not None}
        running = [number for number, one in enumerate(pair.readings) if pair.operators[one.operator].inexact]
        if not set(running) - known.keys():
            return known
        path = folder / f"float.{pair.suffix}"
        path.write_bytes(pair.cut({}, own_constants=True))
        fed = pair.cut_feed(self.calls[0].feed, {})
        with open_runner(path, carded=False) as runner:
            values = {**fed, **runner.run(fed)}
        for number in running:
            reach = float(np.abs(values[pair.readings[number].tensor]).max(initial=0.0))
            if number not in known and 0 < reach < np.inf:
                known[number] = Steps(reach / 127, -reach, reach)
        return known
