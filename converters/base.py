"""What every converter shares: the options, the module as the file will present it, and one captured program.

A :class:`Capture` is made once per export and given to every converter, so that ``torch.export`` runs once for all
formats asked for.
"""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.artifact import library_versions
from edgekit.bench.shapes import Shapes
from edgekit.converters.layout import (
    TO_LAST,
    channels_last,
    file_contract,
    file_shape,
    permuted,
    turned_inputs,
    turned_outputs,
)
from edgekit.converters.sizes import output_shapes
from edgekit.errors import ConversionError, UnsupportedError, UsageError
from edgekit.source import random_note
from edgekit.types import Array, Card, Feed, Format, Network, Signature, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from edgekit.converters.recurrent.packing import Packed

Finish = Callable[[], tuple[str, ...]]
"""Waits for a conversion that was begun; returns its notes."""

NARROWED = {"int64": "int32", "uint64": "uint32", "float64": "float32"}
"""Types of inputs and outputs that TFLite files hold in 32 bits (litert-torch's default; its kernels want it so)."""


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """How a file should present the network.

    Attributes:
        dynamic: input name -> axis -> name of the dynamic dimension.
        opset: ONNX operator set; None takes the converter's default.
        channels_last: images are taken as (N, H, W, C), and maps of scores and images among the outputs given so; where
            no contract calls an input an image, every input of rank 4.
        raw_pixels: the network is one that :func:`edgekit.converters.pixels.with_raw_pixels` made.
        stateful: operators of a TFLite file that keep a state in variables do so between calls.
        optimize: an ONNX file of others is simplified.
        shapes: inputs whose example has another shape than the source's own, and that shape.
    """

    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    opset: int | None = None
    channels_last: bool = False
    stateful: bool = False
    optimize: bool = False
    raw_pixels: bool = False
    shapes: Shapes = field(default_factory=dict)


class Converter(ABC):
    """Writes one file format. A subclass writes :meth:`convert`; one that works elsewhere also :meth:`begin`."""

    format: ClassVar[Format]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """Distributions whose versions the card keeps."""
    runs_on: str | None = None
    """Runtime that the file has to be proved on; None takes the first of its format."""
    proved_on: str = "cpu"
    """Device of that runtime."""
    advice: ClassVar[str] = ""
    """What to do where no runtime takes its file."""
    background: ClassVar[bool] = False
    """:meth:`begin` leaves the work to another process, which the caller may use."""

    def suited(self, network: Network) -> Converter:
        """The converter of this format for ``network``: this one, where it is of torch.

        Raises:
            UnsupportedError: the network is not a torch module, and no converter of this format reads it.
        """
        from edgekit.source.foreign import CONVERTS_TO, KINDS, foreign_file

        file = foreign_file(network.module)
        if file is not None:
            there = CONVERTS_TO[file.format]
            raise UnsupportedError(
                f"{network.name} is {KINDS[file.format]}, which edgekit writes as {' and '.join(there)} only; it "
                f"cannot be converted to {self.format}: use --to {there[0]}"
            )
        return self

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of :attr:`packages`, for the card."""
        return library_versions(*self.packages)

    def card(self, capture: Capture) -> Card:
        """The card of a file of this format, before it is proved."""
        return artifact_card(capture, self.format)

    def check(self, network: Network, options: ConversionOptions) -> None:  # noqa: B027  (nothing to refuse by default)
        """Refuses options that this format cannot honour, before any work is done.

        Raises:
            UnsupportedError: with what there is instead.
        """

    def warm_up(self) -> None:  # noqa: B027  (most converters need no start)
        """Starts in the background whatever a conversion will need. Called before the program is captured."""

    def begin(self, capture: Capture, target: Path) -> Finish:
        """Starts a conversion and returns the function that waits for it."""
        return lambda: self.convert(capture, target)

    @abstractmethod
    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        """Writes ``target`` (a file without a card) and returns notes: what was not honoured, in words.

        Raises:
            ConversionError: the network cannot be written in this format; the message has the cause.
        """


_LEAST = (2, 3, 4, 8, 16, 32)
"""Smallest sizes of a dynamic dimension that are tried in turn when torch.export finds that a smaller one takes another
path in the network (a convolution with stride on one pixel, say)."""


class Capture:
    """A network as a file will present it: inputs in the file's layout, dynamic dimensions named.

    Attributes:
        flipped, back: for each input, and output, whether the file has (N, H, W, C) where the network has (N, C, H, W).
        module: takes the file's inputs in order; the network's module, or that behind a change of layout.
        prefix: what stands before the network's own module names in ``module`` (empty, or ``module.``).
        signature: inputs and outputs with the file's layout and dimension names, in the module's own types.
        contract: the input spec in the file's layout.
        minimum: smallest size of a dynamic dimension that the captured program holds for, where that is not 1.
        maximum: the largest, where there is one: rows of a table of positions, for example.
        held: weights of the LSTM layers on packed sequences whose last cell state is held behind the end of each.
        lengths_computed: the network packs sequences by lengths that it computes itself, and may refuse some inputs.
    """

    def __init__(self, network: Network, options: ConversionOptions) -> None:
        from edgekit.source.foreign import sizes_of_file

        check_dynamic(network.signature, options.dynamic)
        self.network, self.options = network, options
        flipped = turned_inputs(network) if options.channels_last else (False,) * len(network.signature.inputs)
        self.flipped, self.back = flipped, turned_outputs(network, flipped)
        self.module = channels_last(network.module, flipped, self.back) if any(flipped) else network.module
        self.prefix = own_prefix(self.module)
        self.contract = file_contract(network.card.contract, network.signature, flipped)
        inputs = tuple(
            TensorSpec(spec.name, spec.dtype, file_shape(spec, flip, options.dynamic.get(spec.name, {})))
            for spec, flip in zip(network.signature.inputs, flipped, strict=True)
        )
        self._inputs = inputs
        self.minimum = sizes_of_file(network)
        self.maximum: dict[str, int] = {}
        self.lengths_computed = False
        self.held: frozenset[str] = frozenset()

    @cached_property
    def signature(self) -> Signature:
        """Inputs and outputs; named output dimensions come from the captured program."""
        outputs = tuple(
            replace(spec, shape=permuted(spec.shape, back))
            for spec, back in zip(self.network.signature.outputs, self.back, strict=True)
        )
        from edgekit.source.foreign import is_foreign

        if self.dims and not is_foreign(self.module):
            shapes = output_shapes(self.program, self._inputs, len(outputs))
            outputs = tuple(replace(spec, shape=shape) for spec, shape in zip(outputs, shapes, strict=True))
        return Signature(self._inputs, outputs)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dynamic dimensions, in order of first appearance."""
        return Signature(self._inputs, ()).dynamic_dims

    @cached_property
    def examples(self) -> tuple[torch.Tensor, ...]:
        """The network's example inputs in the file's layout; dynamic axes of size 1 are doubled.

        torch.export takes a size of 1 for a constant, so an axis that shall vary is shown with size 2.
        """
        import torch

        from edgekit.source.foreign import is_foreign

        tensors = []
        for spec, flip in zip(self._inputs, self.flipped, strict=True):
            array = np.asarray(self.network.example_inputs[spec.name])
            array = array.transpose(TO_LAST) if flip else array
            for axis, dim in enumerate(spec.shape):
                if isinstance(dim, str) and array.shape[axis] == 1 and not is_foreign(self.module):
                    array = np.repeat(array, 2, axis)
            tensors.append(torch.from_numpy(np.array(array, order="C")))
        return tuple(tensors)

    @property
    def shown(self) -> Feed:
        """:attr:`examples` as a feed."""
        return {spec.name: t.numpy() for spec, t in zip(self._inputs, self.examples, strict=True)}

    @cached_property
    def program(self) -> ExportedProgram:
        """The module captured by torch.export, shared by every format.

        Raises:
            ConversionError: torch.export cannot capture it, or an axis asked to be dynamic is fixed in the module.
        """
        for least in (0, *_LEAST):
            try:
                return self._bounded()
            except UnsupportedError as error:  # of CustomOps, which knows the reason
                raise UnsupportedError(f"{self.network.name!r} cannot be captured: {error}") from error
            except Exception as error:
                stuck = _too_small(error, self.dims)
                if not stuck or least == _LEAST[-1]:
                    raise _capture_error(self.network.name, error, bool(self.dims)) from error
                following = next(size for size in _LEAST if size > least)
                self.minimum.update(dict.fromkeys(stuck, following))
        raise AssertionError("the last round returns or raises")

    def _bounded(self) -> ExportedProgram:
        """Captured, once more with the largest sizes where torch.export says that there are any."""
        try:
            return self._captured()
        except Exception as error:
            largest = _largest(error, self.dims)
            if not largest or largest.items() <= self.maximum.items():
                raise
            self.maximum.update(largest)
        return self._captured()

    def _captured(self) -> ExportedProgram:
        import torch

        from edgekit.converters.attention import as_nested, guard_masks
        from edgekit.converters.pooling import RoundingUp
        from edgekit.converters.recurrent.cell_state import Hold
        from edgekit.converters.recurrent.custom_ops import CustomOps, to_aten
        from edgekit.converters.recurrent.loop_to_rnn import loop_to_rnn
        from edgekit.converters.recurrent.packing import contracts, settle

        known = {
            name: torch.export.Dim(name, min=self.minimum.get(name), max=self.maximum.get(name)) for name in self.dims
        }
        shapes = tuple(
            {axis: known[dim] for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} or None
            for spec in self._inputs
        )
        hold = Hold(self.module)

        def exported() -> tuple[ExportedProgram, Packed]:
            with quiet(), torch.no_grad(), as_nested(self.module), CustomOps(hold), RoundingUp():
                spread = _spread(self.module, shapes) if known else None
                return settle(to_aten(torch.export.export(self.module, self.examples, dynamic_shapes=spread)))

        program, packed = exported()
        if packed.cells:
            self.held = packed.cells
            with hold.holding(packed.cells):
                program, packed = exported()
        self.contract = {**self.contract, **contracts(program, self._inputs, packed.inputs)}
        self.lengths_computed = packed.computed
        return guard_masks(loop_to_rnn(program))

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be honoured in full, in words."""
        from edgekit.converters.recurrent.packing import length_notes
        from edgekit.source.foreign import is_foreign

        how = "run" if is_foreign(self.module) else "captured"
        why = "the file refuses smaller ones" if how == "run" else "smaller ones take another path in the network"
        sizes = (f"dimension {name!r} is {how} for sizes from {n} up: {why}" for name, n in self.minimum.items())
        most = (f"dimension {name!r} goes up to {size} in the network" for name, size in self.maximum.items())
        return (*random_note(self.network.card), *sizes, *most, *length_notes(self.contract, self.held))

    @cached_property
    def reference(self) -> Callable[[Feed], dict[str, Array]]:
        """The module as a function of a feed in the file's layout: what a conversion is proved against."""
        from edgekit.runtime.torch import TorchModuleRunner

        return TorchModuleRunner(self.module, self.signature).run


def own_prefix(module: torch.nn.Module) -> str:
    """What stands before the user's own module names in ``module``: empty, or ``module.`` once for every adapter."""
    prefix = ""
    while getattr(module, "is_adapter", False):
        prefix += "module."
        module = module.module  # type: ignore[assignment]
    return prefix


def artifact_card(capture: Capture, format_: Format) -> Card:
    """The network's card with signature and contract as a file of ``format_`` has them."""
    signature, streaming = capture.signature, capture.network.card.streaming
    if format_ is Format.TFLITE:
        signature = narrowed(signature)
        streaming = None if streaming is None else replace(streaming, sequence=narrowed(streaming.sequence))
    card = replace(capture.network.card, signature=signature, streaming=streaming)
    return replace(card, contract=capture.contract, selftest=None)


def narrowed(signature: Signature) -> Signature:
    """The signature with the types of :data:`NARROWED`."""
    return Signature(_narrowed(signature.inputs), _narrowed(signature.outputs))


def _narrowed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, dtype=NARROWED.get(spec.dtype, spec.dtype)) for spec in specs)


def narrowing_notes(signature: Signature) -> tuple[str, ...]:
    """One line for every input or output that a TFLite file holds in 32 instead of 64 bits."""
    return tuple(
        f"{kind} {spec.name!r} is {NARROWED[spec.dtype]} in the file, {spec.dtype} in the module: TFLite's 64-bit "
        "kernels are few"
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs))
        for spec in specs
        if spec.dtype in NARROWED
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what torch and the exporters print, warn and log away from the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def cause(error: BaseException) -> str:
    """The first line of the innermost exception, and the line of the user's code that torch says it comes from."""
    error = _innermost(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Constraints violated"):  # torch says why on the next line
        lines = [lines[1].lstrip("- ")]
    text = f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"
    places = re.findall(r'File "([^"]+)", line (\d+)', str(error))
    own = [(file, line) for file, line in places if "site-packages" not in file and "/lib/python" not in file]
    return f"{text} ({own[-1][0]}:{own[-1][1]})" if own else text


def detail(error: BaseException) -> str:
    """Type and whole text of the innermost exception: what its cause is told by."""
    error = _innermost(error)
    return f"{type(error).__name__}: {error}"


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _too_small(error: Exception, dims: tuple[str, ...]) -> tuple[str, ...]:
    """The dynamic dimensions that torch.export says do not hold for every size; empty for another error."""
    match = re.search(r"Constraints violated \(([^)]*)\)", str(error))
    named = [name.strip() for name in match[1].split(",")] if match else []
    return tuple(name for name in dims if name in named) if "specialized" not in str(error) else ()


def _largest(error: Exception, dims: tuple[str, ...]) -> dict[str, int]:
    """Dynamic dimension -> its largest size, where torch.export suggests one."""
    found = re.findall(r"Dim\('(\w+)'[^)]*?\bmax=(\d+)\)", str(error))
    return {name: int(size) for name, size in found if name in dims}


def _capture_error(name: str, error: Exception, dynamic: bool) -> ConversionError:
    if dynamic:
        advice = "The network may need a fixed size where --dynamic was given: leave that axis out"
    else:
        advice = "Its forward may depend on the values of its inputs: rewrite that with torch.where, or fix the sizes"
    return ConversionError(
        "torch.export", f"torch.export cannot capture {name!r}: {cause(error)}", advice, detail(error)
    )


def check_dynamic(signature: Signature, dynamic: Mapping[str, Mapping[int, str]]) -> None:
    shapes = {spec.name: spec.shape for spec in signature.inputs}
    for name, axes in dynamic.items():
        if name not in shapes:
            raise UsageError(f"--dynamic names the input {name!r}; the network has: {', '.join(shapes)}")
        for axis, dim in axes.items():
            if not 0 <= axis < len(shapes[name]):
                raise UsageError(f"--dynamic names axis {axis} of {name!r}, which has {len(shapes[name])} axes, from 0")
            if not dim.isidentifier():
                raise UsageError(f"--dynamic calls an axis {dim!r}; a name has letters, digits and _ only")


def _spread(module: torch.nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """``shapes`` as torch.export wants them: those that ``*args`` of forward takes, in a tuple of their own."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(named) < len(shapes) and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return (*shapes[: len(named)], shapes[len(named) :])
    return shapes
