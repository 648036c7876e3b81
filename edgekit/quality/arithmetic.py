"""Whether a quantized file computes what its own scales and zero points say.

Its float parent is cut into operators, each of which is given what the file's operator reads, with the file's own
constants: what comes out, rounded to the steps that the file gives the tensor, is what the file must have there. So
errors do not add up from operator to operator, and the first tensor that differs is where the file is wrong: a wire
that reads another tensor, a scale, a name that two tensors share, a rewrite that changes what is computed. Beside it,
every constant of the file must be the parent's, rounded to the file's own steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.devices import open_runner
from edgekit.errors import ParityError
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.leftovers import scratch_folder
from edgekit.quality.as_app import Call
from edgekit.quality.readings import Constant, Loop, Operator, Pair, Steps
from edgekit.runtime.base import Runner
from edgekit.types import Array, Feed, Format

STEPS = 2
"""Steps by which a tensor may differ. Half a step is rounding, and that was all on x86 (XNNPACK, TFLite's own kernels,
onnxruntime's); a kernel that multiplies by a fixed-point number or reads a table may be a step off. A wrong wire or
scale is off by tens."""
SHARE = 1 / 512
"""And in any case this share of what the tensor holds: kernels for 16 bits read tables of 513 entries."""
REAL = 1e-3
"""Of a tensor that stays real: share of its largest value, ten times what two float kernels differ by."""
NOISE = 8
"""Of an operator that quantizes its inputs as it runs: so many times the root mean square of what such rounding adds,
which is measured. The largest of a hundred million normally distributed errors is 6 times as large."""
LOOP_DB = 15.0
"""Signal to noise of an operator in which such rounding goes round, where that noise is less: from step to step it adds
up, and no number of steps bounds it. 33 to 50 dB were seen; a wrong gate or wire is at 0 to 5 dB."""
FUSED_DB = 30.0
"""Signal to noise of the file's outputs as they are, and with its inner tensors shown: the runtime may fuse otherwise,
and a rounding that falls the other way goes on. They were equal on everything that was tried."""
LARGE_BYTES, LARGE_SAMPLES = 64 << 20, 2
"""Of a file with more bytes of activations than this, so many samples are compared, else all that are given."""
LOOP_SAMPLES, LOOP_STEPS = 2, 32
"""Samples on which the steps of loops are compared, and about how many of a long loop: all of its first half of them,
then ever fewer."""
ERRORS = 6
"""Standard errors by which the mean of a few samples may be off that of the calibration samples."""
_MORE = 1 + 2e-3
"""Of what rounding may do to a constant: what float32 adds to it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A tensor of the file that is not what it should be. ``error`` and ``allowed`` are in its own units."""

    tensor: str
    operator: Operator
    error: float
    allowed: float
    steps: Steps | None = None

    def __str__(self) -> str:
        if self.steps is None:
            return f"{self.tensor} is off by {self.error:.3g}, {self.allowed:.3g} is allowed"
        step = self.steps.step
        return f"{self.tensor} is off by {self.error / step:.1f} of its steps, {self.allowed / step:.1f} are allowed"


@dataclass(frozen=True)
class Arithmetic:
    """What the comparison showed: findings in the order of the operators."""

    findings: tuple[Finding, ...]
    samples: int

    def require(self, what: str) -> None:
        """Raises ParityError with the first finding, where there is one."""
        if not self.findings:
            return
        first = self.findings[0]
        raise ParityError(
            f"{what} does not compute what its own scales and zero points say: {first}. It is the first that differs, "
            f"at the operator {first.operator}; the float file was given the same inputs there. Nothing was published. "
            "This is a fault of the quantizer, not of the network: keep the operator in float with --keep-float, or "
            "take another scheme"
        )


def compare(pair: Pair, calls: Iterable[Call]) -> Arithmetic:
    """Runs both files in workers on the inputs of some calls of the file, operator by operator.

    Raises:
        EdgekitError: one of them does not run.
    """
    findings = list(_constants_off(pair))
    biases = [_Bias(pair, one) for one in pair.constants if one.bias and (_excess(one) > 0).any()]
    count, inside, loops = 0, list[Finding](), pair.loops
    with scratch_folder() as folder, ExitStack() as stack:
        runs = _Runs(pair, folder, stack)
        for call in calls:
            count += 1
            run = runs.of(call.feed)
            if count <= LOOP_SAMPLES:
                inside += [found for loop in loops for found in compare(loop.pair, _steps(loop, run.seen)).findings]
            findings += (*_tensors_off(pair, run), *_outputs_off(pair, run, call.found))
            if biases:
                rounded, own = runs.in_float(call.feed)
                for bias in biases:
                    bias.add(rounded[bias.key], own[bias.key])
            if run.bytes > LARGE_BYTES and count == LARGE_SAMPLES:
                break
    findings += [found for bias in biases if (found := bias.finding(count)) is not None]
    return Arithmetic((*_worst_of_each(pair, findings), *inside), count)


def _steps(loop: Loop, seen: Mapping[str, Array]) -> Iterator[Call]:
    """The steps of a loop of the file, of which the first and every some-th are handed out.

    Args:
        seen: tensors of the file on one sample, by key.
    """
    with scratch_folder() as folder, ExitStack() as stack:
        step, condition = (
            stack.enter_context(_opened(folder / f"{name}.tflite", content))
            for name, content in (("step", loop.step), ("condition", loop.condition))
        )
        others = [spec.name for spec in condition.signature.inputs]
        feed = {name: seen[start] if isinstance(start, str) else start for name, start in loop.start.items()}
        number = handed = 0
        while next(iter(condition.run(dict(zip(others, feed.values(), strict=True))).values())).item():
            found = step.run(feed)
            if number == handed:
                yield Call(feed, {}, found)
                handed += 1 if handed < LOOP_STEPS // 2 else max(1, handed // 2)
            feed = dict(zip(feed, found.values(), strict=True))
            number += 1


def _opened(path: Path, content: bytes) -> Runner:
    path.write_bytes(content)
    return open_runner(path, carded=False)


def _worst_of_each(pair: Pair, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a tensor, in the order of the operators."""
    order = {id(one): number for number, one in enumerate(pair.operators)}
    worst: dict[str, Finding] = {}
    for one in findings:
        if one.tensor not in worst or one.error > worst[one.tensor].error:
            worst[one.tensor] = one
    return tuple(sorted(worst.values(), key=lambda one: order.get(id(one.operator), len(order))))


@dataclass(frozen=True)
class _Run:
    """One sample.

    Attributes:
        seen: what the file has, by its keys.
        exact: what it should have, by key of the parent's tensor.
        rounding: by how much a tensor may be off since kernels quantize what they read as they run; empty where none
            do.
    """

    seen: Mapping[str, Array]
    exact: Mapping[str, Array]
    rounding: Mapping[str, float]

    @property
    def bytes(self) -> int:
        return sum(value.nbytes for value in self.seen.values())


class _Runs:
    """The models of a pair in workers; the cut parent is made again when what it is given has another shape."""

    def __init__(self, pair: Pair, folder: Path, stack: ExitStack) -> None:
        self.pair, self.folder, self.stack = pair, folder, stack
        self.noisy = pair.rounded_while_running()
        self.shown = self._open("shown", pair.shown())
        self.given: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] | None = None
        self.open: dict[bool, Runner] = {}

    def of(self, feed: Feed) -> _Run:
        pair = self.pair
        entry = pair.shown_feed(feed)
        seen = {**entry, **self.shown.run(entry)}
        self.given = {}
        for reading in pair.readings:
            value = seen[reading.other]
            if reading.other in entry and reading.steps is not None:
                value = seen[reading.other] = reading.steps.nearest(value).astype(np.float32)
            if value.dtype.kind == "f" and np.isfinite(value).all():  # a mask is read as the parent computes it
                self.given[reading.other] = value.astype(np.float32, copy=False)
        shapes = {other: value.shape for other, value in self.given.items()}
        if shapes != self.shapes:
            for runner in self.open.values():
                runner.close()
            self.open, self.shapes = {}, shapes
        fed = pair.cut_feed(feed, self.given)
        exact = self._cut(own_constants=False).run(fed)
        return _Run(seen, {**fed, **exact}, self._rounding(fed, exact) if self.noisy else {})

    def _rounding(self, fed: Feed, exact: Mapping[str, Array]) -> dict[str, float]:
        """What rounding the inputs of kernels adds, at most: errors that are independent, or all of one sign, as those
        of a constant image are."""
        found = dict.fromkeys(exact, 0.0)
        for error in (_independent, _of_one_sign):
            given = {name: error(value) if name in self.noisy else value for name, value in fed.items()}
            for name, value in self._cut(own_constants=False).run(given).items():
                there = np.isfinite(exact[name]) & np.isfinite(value)
                change = np.where(there, value, 0) - np.where(there, exact[name], 0).astype(np.float64)
                largest = float(np.abs(change).max(initial=0.0))
                found[name] += NOISE * _root(change) if error is _independent else largest
        return found

    def in_float(self, feed: Feed) -> tuple[dict[str, Array], dict[str, Array]]:
        """What each operator gives of what it reads in the float file: with the file's constants, and with its own."""
        own = self._cut(own_constants=True).run(self.pair.cut_feed(feed, {}))
        known, given = {**self.pair.cut_feed(feed, {}), **own}, {}
        for reading in self.pair.readings:
            if reading.other in self.given:
                value = known[reading.tensor]  # infinite where a maximum is padded: there the file has its least step
                given[reading.other] = np.where(np.isfinite(value), value, self.given[reading.other])
        return self._cut(own_constants=False).run(self.pair.cut_feed(feed, given)), own

    def _cut(self, *, own_constants: bool) -> Runner:
        if own_constants not in self.open:
            content = self.pair.cut({} if own_constants else self.given, own_constants=own_constants)
            self.open[own_constants] = self._open(f"cut{int(own_constants)}", content)
        return self.open[own_constants]

    def _open(self, name: str, content: bytes) -> Runner:
        return self.stack.enter_context(_opened(self.folder / f"{name}.{self.pair.suffix}", content))


def first_not_finite(pair: Pair, feed: Feed) -> Operator | None:
    """The first operator of the parent whose result is not finite in the file on ``feed``; None where none is seen."""
    with scratch_folder() as folder, ExitStack() as stack:
        runs = _Runs(pair, folder, stack)
        entry = pair.shown_feed(feed)
        seen = {**entry, **runs.shown.run(entry)}
    broken = {r.tensor for r in pair.readings if not np.isfinite(seen[r.other]).all()}
    broken |= {key for key, other, _ in pair.results.values() if other in seen and not np.isfinite(seen[other]).all()}
    return next((one for one in pair.operators if broken.intersection(one.outputs)), None)


def _half_step(values: Array) -> float:
    """Of 8 bits that a kernel quantizes values to as it runs, with one scale for both signs."""
    return float(np.abs(values).max(initial=0.0)) / 127 / 2


def _independent(values: Array) -> Array:
    half = _half_step(values)
    return (values + np.random.default_rng(0).uniform(-half, half, values.shape)).astype(np.float32)


def _of_one_sign(values: Array) -> Array:
    return (values + _half_step(values)).astype(np.float32)


def _tensors_off(pair: Pair, run: _Run) -> Iterator[Finding]:
    """Tensors of the file that are not what the parent makes of the same inputs."""
    maker = {key: one for one in pair.operators for key in one.outputs}
    behind = _steps_behind(pair)
    judged: set[tuple[str, str]] = set()
    reads = [(r.tensor, r.other, r.steps, pair.operators[r.operator]) for r in pair.readings]
    results = [(key, other, steps, None) for key, other, steps in pair.results.values() if key in maker]
    for tensor, other, steps, reader in (*reads, *results):
        exact, seen = run.exact.get(tensor), run.seen.get(other)
        if (tensor, other) in judged or exact is None or seen is None or exact.dtype.kind != "f":
            continue
        judged.add((tensor, other))
        writer = maker.get(tensor) or reader
        assert writer is not None
        name = f"the tensor {writer.name!r}" if tensor in maker else "an input"
        name += "" if reader is None else f" as {reader} reads it"
        if exact.shape != seen.shape:
            yield Finding(f"{name}, of shape {seen.shape} in place of {exact.shape},", writer, np.inf, 0.0)
            continue
        inexact, rounding = writer.inexact if tensor in maker else "", run.rounding.get(tensor, 0.0)
        found = _off_by(exact, seen, steps, inexact, rounding)
        if found is not None and other in behind:
            found = _off_by(exact, seen, behind[other], inexact, rounding)
        if found is not None:
            yield Finding(name, writer, *found, steps)


def _steps_behind(pair: Pair) -> dict[str, Steps]:
    """Real tensor of the file -> the steps of what an operator makes of it that only moves values (a transpose).

    Rounding before such an operator and behind it are the same, and onnxruntime moves it from one place to the other,
    so that it hands the tensor out rounded.
    """
    format_ = Format(pair.suffix)
    moved = {r.tensor: r.steps for r in pair.readings if r.steps is not None}
    found = {}
    for reading in pair.readings:
        reader = pair.operators[reading.operator]
        known = ops.get(format_, reader.kind)
        steps = moved.get(reader.outputs[0]) if reader.outputs else None
        if reading.steps is None and steps is not None and known is not None and known.family is Family.RESHAPE:
            found[reading.other] = steps
    return found


def _off_by(
    exact: Array, seen: Array, steps: Steps | None, inexact: str, rounding: float
) -> tuple[float, float] | None:
    """(error, allowed) where a tensor is off by more than is allowed; None where it is right."""
    there = np.isfinite(exact)
    wanted = np.where(there, exact, 0).astype(np.float64)
    within = wanted if steps is None else steps.within(wanted)
    error = np.where(there, np.abs(within - seen), 0)
    step = 0.0 if steps is None else max(STEPS * steps.step, SHARE * (steps.high - steps.low) if steps.fine else 0.0)
    if inexact == "loop":
        share = 10 ** (-LOOP_DB / 20)
        found, allowed = _root(error), max(share * _root(within), rounding) + step
        return None if found <= allowed else (found, allowed)
    allowed = max(REAL * float(np.abs(within).max(initial=0.0)), step)
    if inexact == "hybrid":
        allowed += rounding
    worst = float(error.max(initial=0.0))
    return None if worst <= allowed else (worst, allowed)


def _outputs_off(pair: Pair, run: _Run, outputs: Mapping[str, Array]) -> Iterator[Finding]:
    """Outputs of the file as it is that are not those it has when its inner tensors are shown."""
    maker = {key: one for one in pair.operators for key in one.outputs}
    named = set(pair.results) == set(outputs)
    for (name, (key, other, steps)), value in zip(pair.results.items(), outputs.values(), strict=True):
        found, shown = outputs[name] if named else value, run.seen.get(other)
        if shown is None or shown.dtype.kind != "f" or key not in maker:
            continue
        there = np.isfinite(shown)
        error = np.where(there, np.abs(found.astype(np.float64) - shown), 0) if found.shape == shown.shape else np.inf
        reach = np.where(there, shown, 0).astype(np.float64)
        allowed = max(10 ** (-FUSED_DB / 20) * _root(reach), 0.0 if steps is None else STEPS * steps.step)
        if not _root(error) <= allowed:
            said = f"the output {name!r}, beside what the file gives with its inner tensors shown,"
            yield Finding(said, maker[key], float(_root(error)), allowed, steps)


def _root(values: Array | float) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values)))) if np.size(values) else 0.0


def _excess(constant: Constant) -> Array:
    """By how much each value is further from the parent's than rounding moves it."""
    there = np.isfinite(constant.wanted)  # a mask has infinity
    wanted, found = (np.where(there, side, 0).astype(np.float64) for side in (constant.wanted, constant.found))
    excess: Array = np.abs(found - wanted) - _MORE * constant.allowed - 1e-6 * np.abs(wanted)
    return excess


def _constants_off(pair: Pair) -> Iterator[Finding]:
    for one in pair.constants:
        excess = _excess(one)
        if not one.bias and (excess > 0).any():
            place = np.unravel_index(int(excess.argmax()), excess.shape)
            allowed = float(np.broadcast_to(one.allowed, excess.shape)[place])
            error = float(abs(one.found[place] - one.wanted[place]))
            operator = Operator("in a loop or branch", one.name, ()) if one.graph else pair.operators[one.operator]
            yield Finding(f"the constant {one.name!r}", operator, error, allowed)


class _Bias:
    """A bias that is further from the parent's than rounding moves it: it may have been corrected.

    A correction takes off the mean, over the calibration samples, of what rounding the weights adds to a channel. The
    mean over these samples is off by its standard error, of which :data:`ERRORS` are allowed, beside :data:`STEPS` of
    the result.
    """

    def __init__(self, pair: Pair, constant: Constant) -> None:
        self.pair, self.constant = pair, constant
        self.operator = pair.operators[constant.operator]
        self.key = self.operator.outputs[0]
        self.change = constant.found.astype(np.float64) - constant.wanted
        self.places, self.sum, self.squares = (np.zeros(len(self.change)) for _ in range(3))
        self.low = self.high = 0.0

    def add(self, exact: Array, plain: Array) -> None:
        """One sample: what the operator gives in the float file with the constants of the other, and with its own."""
        found, own = (self.pair.channels(side).astype(np.float64) for side in (exact, plain))
        active = (found != 0) & (own != 0)  # where a fused activation lets it through
        weights = np.where(active, found - own - self.change, 0)
        self.places += active.sum(0)
        self.sum += weights.sum(0)
        self.squares += (weights**2).sum(0)
        self.low, self.high = min(self.low, float(found.min())), max(self.high, float(found.max()))

    def finding(self, samples: int) -> Finding | None:
        places = np.maximum(self.places, 1)
        mean = self.sum / places
        spread = np.sqrt(np.maximum(self.squares / places - mean**2, 0))
        steps = next((r.steps for r in self.pair.readings if r.tensor == self.key and r.steps is not None), None)
        step = (self.high - self.low) / 255 if steps is None else max(steps.step, SHARE * (steps.high - steps.low))
        allowed = STEPS * step + ERRORS * spread / np.sqrt(samples) + _MORE * self.constant.allowed
        off = np.where(self.places >= samples, np.abs(self.change + mean), 0)  # of fewer places nothing can be said
        worst = int((off - allowed).argmax())
        if off[worst] <= allowed[worst]:
            return None
        return Finding(f"the constant {self.constant.name!r}", self.operator, float(off[worst]), float(allowed[worst]))
