"""Which operators of a file run on integers, decided by what their kernels take on the target.

Every operator is cut out, with integers and in float, and both are timed on the device that the file is for; what was
timed once is kept for that CPU and those versions of the runtimes. For a target that is not at hand the question is
asked of the kernels that there are instead: an operator that XNNPACK takes in float only stays in float.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edgekit.data.cache import cache_folder
from edgekit.devices import WorkerClient, measures, open_worker, parse_device
from edgekit.errors import DeviceError, InputError
from edgekit.leftovers import scratch_folder
from edgekit.locks import locked
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import publishing
from edgekit.passes import Pass
from edgekit.pipeline.quantize.calibrate import Source
from edgekit.progress import track
from edgekit.quantization.kernel_choice import FLOAT, INTEGERS, Conversion, Kernel, Pair, choose
from edgekit.quantization.onnx import single as onnx_single
from edgekit.quantization.prepared import Prepared
from edgekit.quantization.schemes import SchemeRequest, scheme
from edgekit.quantization.tflite.products import HARD_SWISH, with_products
from edgekit.quantization.tflite.single import Cutter, conversion, pairs
from edgekit.results.quantize import KernelTimes
from edgekit.types import Artifact, Feed, Format, Signature

log = logging.getLogger("edgekit")
SCHEMA = "edgekit.kernels/1"
ROUNDS = 3
"""Times that the two files of an operator take turns; the fastest block of each counts."""
BLOCK_S, LONGEST_S = 0.004, 30.0
"""Of one block, the copies of its inputs and outputs included, which are not counted."""
CONVERTED = (1024, 16_384, 262_144)
"""Elements at which a conversion is timed; between and beyond them its time is a straight line."""
MakePass = Callable[[frozenset[str]], Pass]
"""HARD_SWISH operators that become products -> the pass that puts all else on integers."""


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """The times of all operators, which of them stay in float, and which HARD_SWISH become products.

    ``weighed``: by times or kernels of the target; otherwise rules hold that know neither.
    """

    kernels: tuple[Kernel, ...] = ()
    keep_float: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()
    why: str = ""
    weighed: bool = False

    def rows(self) -> tuple[KernelTimes, ...]:
        """The operators as they stand in documents."""
        return tuple(
            KernelTimes(
                one.name,
                one.kind,
                _whole(one.integer_ns),
                _whole(one.float_ns),
                FLOAT if one.name in self.keep_float else INTEGERS,
            )
            for one in self.kernels
        )

    def reasons(self) -> dict[str, str]:
        """Operator name -> why it stays in float."""
        return dict.fromkeys(self.keep_float, self.why)


def _whole(time_ns: float | None) -> int | None:
    return None if time_ns is None else round(time_ns)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A file in parts: its operators in pairs, elements of tensors, inputs and outputs; what converts a tensor."""

    pairs: Sequence[Pair]
    elements: Mapping[str, int]
    sides: tuple[Sequence[str], Sequence[str]]
    conversion: Callable[..., bytes]


def weigh(source: Source, parent: Artifact, signature: Signature, options: QuantizeOptions) -> KernelPlan:
    """Which operators stay in float on the target; none where it wants integers throughout.

    Args:
        signature: of the user's file ``parent``.
    """
    if options.scheme != "int8" or options.integer_io:
        return KernelPlan()
    # operators that are cut out of a file with free sizes have none of their own
    free = any(isinstance(size, str) for spec in signature.inputs for size in spec.shape[1:])
    on = options.device if is_timed(options) and not free else None
    log.info("weighing kernels %s", f"on {on}" if on else "by what XNNPACK has for integers")
    stateful = parent.format is Format.TFLITE  # layers without what resets them

    def make_pass(products: frozenset[str]) -> Pass:
        request = SchemeRequest(parent, source.ranges, stateful=stateful, float_kernels=frozenset(), products=products)
        return scheme(options.scheme).make(request)

    return plan_kernels(source.prepared, make_pass, on)


def is_timed(options: QuantizeOptions) -> bool:
    """Whether the file is timed on its target."""
    return bool(options.seconds) and options.for_ == "cpu" and parse_device(options.device).evidence.has_time


def plan_kernels(source: Prepared, make_pass: MakePass, on: str | None) -> KernelPlan:
    """Assigns the operators of the float file ``source``, .onnx or .tflite.

    Args:
        make_pass: makes the pass that quantizes it.
        on: the device whose times decide; None: by the kernels that XNNPACK has (for .onnx all run on integers).

    Raises:
        EdgekitError: the file cannot be quantized, or the device cannot be used.
    """
    format_ = source.artifact.format
    if on is None and format_ is Format.ONNX:
        return KernelPlan()
    with scratch_folder() as folder:
        cut, swishes = (_cut_onnx if format_ is Format.ONNX else _cut_tflite)(source, make_pass, folder)
        if on is not None:
            with Stopwatch(on, folder, format_) as watch:
                shown = track(cut.pairs, "timing operators", len(cut.pairs))
                kernels = tuple(Kernel(p.name, p.kind, *watch.pair(p), p.weights, p.reads, p.writes) for p in shown)
                conversions = watch.conversions(cut.elements, cut.conversion)
            keep = choose(kernels, conversions, *cut.sides)
            why = f"faster in float on {on}, conversions included"
        else:
            with Delegates("cpu", folder, format_) as delegates:
                kernels, keep = delegates.assigned(cut.pairs)
            why = "XNNPACK has no integer kernel for it"
    return KernelPlan(kernels, keep, swishes - keep, why, weighed=True)


def _cut_tflite(source: Prepared, make_pass: MakePass, folder: Path) -> tuple[_Cut, frozenset[str]]:
    parent = Cutter(source.content)
    swishes = frozenset(one.name for one in parent.singles if one.kind == HARD_SWISH)
    whole = folder / "whole.tflite"
    make_pass(swishes).apply(source.artifact, source.context(whole))
    _, done = with_products(source.content, swishes)
    found = pairs(parent, Cutter(whole.read_bytes()), done.parts, done.scaled)
    return _Cut(found, parent.elements, parent.sides, conversion), swishes


def _cut_onnx(source: Prepared, make_pass: MakePass, folder: Path) -> tuple[_Cut, frozenset[str]]:
    import onnx

    parent = onnx_single.Onnx(onnx.load_from_string(source.content))
    whole = folder / "whole.onnx"
    make_pass(frozenset()).apply(source.artifact, source.context(whole))
    found = onnx_single.pairs(parent, onnx_single.Onnx(onnx.load(str(whole))))
    sides = parent.inputs, parent.outputs
    return _Cut(found, onnx_single.elements(parent), sides, onnx_single.conversion), frozenset()


class _Bench(ABC):
    """A worker on a device that loads one small file after the other; a context manager."""

    def __init__(self, device: str, folder: Path, format_: Format) -> None:
        self.device, self._folder, self._suffix = device, folder, f".{format_}"
        self._client: WorkerClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _file(self, content: bytes) -> Path:
        file = self._folder / f"{sha256(content).hexdigest()}{self._suffix}"
        if not file.exists():
            file.write_bytes(content)
        return file

    def _open(self) -> WorkerClient:
        if self._client is None:
            self._client = open_worker(self.device)
        return self._client

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _tried(self, content: bytes) -> Any | None:
        """What :meth:`_try` gives; None where the operator crashes, hangs or is refused, which costs a worker."""
        try:
            return self._try(self._open(), self._file(content))
        except (DeviceError, InputError) as error:
            log.debug("an operator does not run alone on %s: %s", self.device, error)
            self._close()
            return None

    @abstractmethod
    def _try(self, client: WorkerClient, file: Path) -> Any: ...


class Delegates(_Bench):
    """Asks XNNPACK which operators it takes."""

    def assigned(self, given: Sequence[Pair]) -> tuple[tuple[Kernel, ...], frozenset[str]]:
        """The operators without times, and those that stay in float."""
        kernels = tuple(Kernel(p.name, p.kind, None, None, p.weights, p.reads, p.writes) for p in given)
        known: dict[str, bool] = {}
        for one in given:
            if one.signature not in known:
                integer = one.integer is not None and self._tried(one.integer())
                known[one.signature] = not integer and bool(self._tried(one.float()))
        return kernels, frozenset(one.name for one in given if known[one.signature])

    def _try(self, client: WorkerClient, file: Path) -> bool:
        delegation = client.load(file, raw=True).delegation
        return delegation is not None and delegation.delegated == delegation.nodes


class Stopwatch(_Bench):
    """Times operators, unless they were timed there before."""

    def __init__(self, device: str, folder: Path, format_: Format) -> None:
        super().__init__(device, folder, format_)
        self._known: dict[str, list[float | None]] | None = None
        self._place = Path()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        if self._known is not None:
            with locked(self._place.with_suffix(".lock")), publishing(self._place) as temporary:
                times = {**_read(self._place), **self._known}  # others have timed meanwhile
                temporary.write_text(json.dumps({"schema": SCHEMA, "times_ns": times}), encoding="utf-8")

    def pair(self, one: Pair) -> tuple[float | None, float | None]:
        """(integer, float) nanoseconds; None for the one that does not run there. An operator that is never on integers
        is not timed: its time makes no difference."""
        if one.folded:
            return 0.0, 0.0
        if one.integer is None:
            return None, 0.0
        known = self._times()
        if one.signature not in known:
            known[one.signature] = list(self._timed((one.integer(), one.float())))
        integer, real = known[one.signature]
        return integer, 0.0 if integer is None and real is None else real

    def conversions(self, elements: Mapping[str, int], make: Callable[..., bytes]) -> dict[str, Conversion]:
        """What converting tensors of so many elements takes; ``make`` gives a file that does."""
        lines = [self._line(make, quantize=True), self._line(make, quantize=False)]
        return {
            name: Conversion(*(max(float(np.polyval(line, count)), 0.0) for line in lines))
            for name, count in elements.items()
        }

    def _line(self, make: Callable[..., bytes], *, quantize: bool) -> Any:
        known, key = self._times(), f"conversion {self._suffix} {quantize} {CONVERTED}"
        if key not in known:
            known[key] = list(self._timed([make(count, quantize=quantize) for count in CONVERTED]))
        points = [(count, time) for count, time in zip(CONVERTED, known[key], strict=True) if time is not None]
        if len(points) < 2:
            raise DeviceError(
                f"{self.device} does not run the conversion between float32 and int8, which every int8 file needs; "
                "check it with edgekit device check"
            )
        return np.polyfit([count for count, _ in points], [time for _, time in points], 1)

    def _timed(self, files: Sequence[bytes]) -> tuple[float | None, ...]:
        """Fastest typical nanoseconds of each file, which take turns, forwards and backwards."""
        best: dict[int, float] = {}
        failed: set[int] = set()
        order = list(range(len(files)))
        for _ in range(ROUNDS):
            for place in order:
                time = None if place in failed else self._tried(files[place])
                if time is None:
                    failed.add(place)
                else:
                    best[place] = min(time, best.get(place, time))
            order.reverse()
        return tuple(None if place in failed else best[place] for place in range(len(files)))

    def _try(self, client: WorkerClient, file: Path) -> float:
        feed = _feed(client.load(file, raw=True).signature)
        runs = client.measure(measures.transfer, feed, timeout_s=LONGEST_S, seconds=BLOCK_S).arrays["run"]
        return float(np.median(runs))

    def _times(self) -> dict[str, list[float | None]]:
        """What is known of this device: of its CPU, with its versions of the runtimes."""
        if self._known is None:
            there = self._open().environment()
            name = json.dumps([there.get(key) for key in ("cpu", "cpu_id", "machine", "versions")])
            self._place = cache_folder() / "kernels" / f"{sha256(name.encode()).hexdigest()[:32]}.json"
            self._known = _read(self._place)
        return self._known


def _read(place: Path) -> dict[str, list[float | None]]:
    """Times that were kept; none where nothing was, or where another version did."""
    if not place.is_file():
        return {}
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        rows = document["times_ns"].items() if document["schema"] == SCHEMA else ()
        return {str(key): [None if time is None else float(time) for time in row] for key, row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s); kernels are timed again", place, error)
        return {}


def _feed(signature: Signature) -> Feed:
    """Values that every operator takes: small ones, and zeros where they may be indices."""
    generator = np.random.default_rng(0)
    feed: dict[str, Any] = {}
    for spec in signature.inputs:
        shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
        if spec.dtype.startswith("float"):
            feed[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
        elif spec.dtype in ("int8", "uint8", "int16"):
            feed[spec.name] = generator.integers(0, 100, shape).astype(spec.dtype)
        else:
            feed[spec.name] = np.zeros(shape, spec.dtype)
    return feed
