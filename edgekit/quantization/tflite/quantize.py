"""Quantization of TFLite files with Google's quantizer (``ai_edge_quantizer``, renamed ``litert_quantizer``)."""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.artifact import library_versions
from edgekit.errors import RuntimeMissingError, UnsupportedError, UsageError
from edgekit.flatbuffer_reader import has_outside_buffers
from edgekit.graph import ops
from edgekit.graph.ops import Trait
from edgekit.graph.tflite_editor import Editor
from edgekit.passes import AROUND_ATTENTION, Model, Pass, PassContext, quiet_stderr
from edgekit.quantization.calibrate.bias_correction import correct_biases
from edgekit.quantization.calibrate.calibration import Calibration, describe
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.tflite.compact_loops import holds_compact
from edgekit.quantization.tflite.exclusions import around_attention, exclusions
from edgekit.quantization.tflite.finish import finished, narrowed, unshared
from edgekit.quantization.tflite.integer_loops import beside_powers
from edgekit.quantization.tflite.linear_graph import LinearTflite
from edgekit.quantization.tflite.prepare import INNER, prepared
from edgekit.quantization.tflite.products import Rewritten, with_products
from edgekit.quantization.tflite.recurrent import Recurrent, holds_recurrent, quantize_recurrent
from edgekit.quantization.tflite.stateless import is_stateless, stateless, why_not_in_integers
from edgekit.quantization.tflite.unsigned import as_unsigned
from edgekit.types import Artifact, Format, PassResult, Step

SCHEMES = ("int8", "int8-dynamic", "int8-weights", "fp16", "int16x8", "int4-weights")
PACKAGES = ("ai_edge_quantizer", "litert_quantizer")
"""Import names of the same library, old and new."""
_ONE_SCALE = ops.names(Format.TFLITE, trait=Trait.ONE_SCALE)
_LAYERS = tuple(
    op.name.replace("TRANSPOSE_CONV", "CONV_2D_TRANSPOSE") for op in ops.weighted(Format.TFLITE) if op.layout
)
"""Operators that can hold int8 weights and compute in float, by the library's names."""
_STATIC = {"int8": 8, "int16x8": 16}
_NOTES = {
    "int16x8": "16-bit activations run on TFLite's reference kernels on x86 (tens of times the time of float): for "
    "microcontrollers and NPUs",
    "int4-weights": "4-bit weights are unpacked at every run on x86 (6 times the time of float): smaller, not faster",
    "int8-weights": "weights are held in int8 and turned into float32 when the file is loaded; the arithmetic is float",
    "fp16": "weights are float16 and turned into float32 when the file is loaded; on CPUs the arithmetic is float32",
}


@dataclass(frozen=True)
class QuantizeTflite(Pass):
    """Quantizes a TFLite file.

    ``int8``: weights int8, symmetric, one scale per output channel; activations int8, one scale per tensor, from a
    calibration; biases int32. ``int16x8``: the same with int16 activations. ``int8-dynamic``: int8 weights, activations
    quantized by the kernels; one scale a matrix in products and tables. ``int8-weights``, ``int4-weights``, ``fp16``:
    weights in fewer bits, arithmetic in float.

    ``int8`` leaves what lies around attention in float (:mod:`edgekit.quantization.tflite.exclusions`), unless
    ``integer_io``, or ``float_kernels`` says what does: those operators compute in float since that is faster on the
    target, and hold int8 weights. Recurrent operators do so, too, then: their integer kernels are slower than those in
    float on every CPU.
    Recurrent operators: see :mod:`edgekit.quantization.tflite.recurrent`. Inputs and outputs stay float32 unless
    ``integer_io``. ``keep_float``: operators left alone, by the names of
    :func:`edgekit.quantization.prepared.Prepared.operators`; ``products``: HARD_SWISH operators that become
    sums and products (:mod:`edgekit.quantization.tflite.products`). Recurrent layers of a stateless file start every
    call from zeros, as they did, unless ``stateful`` (:mod:`edgekit.quantization.tflite.stateless`); where that costs
    integer ones too much they are hybrid, or, with ``integer_io``, refused.
    ``unsigned``: integer inputs and outputs are uint8 (:mod:`edgekit.quantization.tflite.unsigned`).
    """

    scheme: str = "int8"
    calibration: Calibration | None = None
    integer_io: bool = False
    keep_float: frozenset[str] = frozenset()
    stateful: bool = False
    products: frozenset[str] = frozenset()
    float_kernels: frozenset[str] | None = None
    unsigned: bool = False
    name: ClassVar[str] = "quantize-tflite"

    def describe(self, model: Model) -> Step:
        params: dict[str, Any] = {"scheme": self.scheme, "weights": _weights(self.scheme)}
        if self.scheme != "fp16":
            params["granularity"] = _granularity(self.scheme)
        if self.scheme in _STATIC:
            params["activations"] = f"int{_STATIC[self.scheme]}, per tensor"
            params["integer_io"] = self.integer_io
            if self.unsigned:
                params["io"] = "uint8"
            if self.calibration is not None:
                params["calibration"] = describe(self.calibration)
        if self.stateful:
            params["stateful"] = True
        if self.keep_float:
            params["kept_in_float"] = sorted(self.keep_float)
        versions = library_versions("ai-edge-quantizer", "litert-quantizer", "ai-edge-litert")
        return Step("quantize", params, versions)

    def apply(self, model: Model, context: PassContext) -> PassResult:
        if not isinstance(model, Artifact) or model.format is not Format.TFLITE or context.target is None:
            raise UsageError("this pass works on .tflite files and writes a target")
        if self.scheme not in SCHEMES:
            raise UsageError(f"no scheme is called {self.scheme!r} for .tflite files; there are: {', '.join(SCHEMES)}")
        if self.integer_io and self.scheme not in _STATIC:
            raise UsageError(f"integer inputs and outputs need --scheme int8, not {self.scheme}")
        if self.scheme in _STATIC and self.calibration is None:
            raise UsageError(
                f"scheme {self.scheme} needs a calibration: give --data (real samples; random ones give wrong ranges)"
            )
        content = prepared(model.path) if context.prepared is None else context.prepared
        given, rewritten, slow, unfit = self._rewritten(content)
        stored = self.scheme == "int8-dynamic" and holds_recurrent(given)  # why: quantize_recurrent.NOTES
        used = "int8-weights" if stored else self.scheme
        keep = rewritten.named(self.keep_float | slow | unfit.keys())
        calibration = None if self.calibration is None else rewritten.calibration(self.calibration)
        stored_only = rewritten.named(self.float_kernels or frozenset())
        hybrid = not holds_compact(given)
        recipe = self._recipe(used, _scopes(given, keep), _scopes(given, stored_only), hybrid_loops=hybrid)
        bits = _STATIC.get(self.scheme)
        calibrated = _library_ranges(calibration, bits) if bits is not None and calibration is not None else None
        apart = unshared(self._corrected(given, calibration, keep), (keep, stored_only))
        content = _quantized(model.path, apart, recipe, calibrated)
        ranges = calibration.ranges if calibration is not None else {}
        done = self._with_recurrent(content, ranges, given, anew=not self.stateful and is_stateless(model.path))
        made = narrowed(done.content, model.path)
        context.target.write_bytes(as_unsigned(made) if self.unsigned else made)
        said = {AROUND_ATTENTION: len(slow), **Counter(unfit.values())}
        left = [
            f"{count} operator{'s stay' if count > 1 else ' stays'} in float: {why}"
            for why, count in said.items()
            if count
        ]
        notes = (*filter(None, [_NOTES.get(self.scheme)]), *left, *done.notes, *_refused_by_old(done.content, used))
        left_in_float = {**unfit, **dict.fromkeys(slow, AROUND_ATTENTION)}
        return PassResult(Artifact(context.target, Format.TFLITE, model.card), True, notes, left_in_float)

    def float_form(self, content: bytes) -> bytes:
        """The prepared float file as it is rewritten before it is quantized: it computes the same."""
        return self._rewritten(content)[0]

    def _rewritten(self, content: bytes) -> tuple[bytes, Rewritten, frozenset[str], Mapping[str, str]]:
        """:meth:`float_form`, what was changed in it, and operators that stay in float: slow ones, and those that must
        with the reason."""
        slow = frozenset() if self.float_kernels is not None else _slow(content, self.scheme, self.integer_io)
        ranges = self.calibration.ranges if self.calibration is not None else {}
        unfit = exclusions(content, self.scheme, self.integer_io, ranges)
        return *with_products(content, self.products - unfit.keys()), slow, unfit

    def _with_recurrent(self, content: bytes, ranges: Mapping[str, Range], given: bytes, *, anew: bool) -> Recurrent:
        """``content`` with recurrent operators, free sizes and names as the float file ``given`` has them.

        ``anew``: recurrent layers start every call from zeros.
        """
        scheme = self.scheme if self.float_kernels is None else "int8-weights"
        done = quantize_recurrent(content, scheme, ranges, self.keep_float)
        made = finished(done.content, given)
        costly = why_not_in_integers(made) if anew and not self.integer_io else ""
        if costly:
            why = f"in integers that start every call from zeros {costly} (--stateful does without)"
            done = quantize_recurrent(content, scheme, ranges, self.keep_float, why)
            made = finished(done.content, given)
        return replace(done, content=stateless(made) if anew else made)

    def _corrected(self, content: bytes, calibration: Calibration | None, keep: frozenset[str]) -> bytes:
        """The float file with its biases corrected for int8 weights."""
        if self.scheme not in _STATIC or calibration is None:
            return content
        graph = LinearTflite(content)
        return graph.content() if correct_biases(graph, calibration.means, (), keep) else content

    def _recipe(
        self, scheme: str, keep: Sequence[str], stored: Sequence[str], *, hybrid_loops: bool
    ) -> list[dict[str, Any]]:
        """The library's recipe: a rule for all operators, for those that want another, and for inputs and outputs.

        ``keep``: scopes of operators that stay in float, see :func:`_scopes`; ``stored``: of those that compute in
        float and hold int8 weights; ``hybrid_loops``: products inside of loops are hybrid, where those loops are not
        written anew by :func:`quantize_recurrent`.
        """
        config = _op_config(scheme)
        key = "float_casting" if scheme == "fp16" else "min_max_uniform_quantize"
        rules = [{"regex": ".*", "operation": "*", "algorithm_key": key, "op_config": config}]
        if scheme in ("int8-dynamic", *_STATIC):
            dynamic = _op_config("int8-dynamic")
            dynamic["weight_tensor_config"]["granularity"] = "TENSORWISE"
            own = _ONE_SCALE if scheme == "int8-dynamic" else ("EMBEDDING_LOOKUP",)
            rules += [{"regex": ".*", "operation": kind, "algorithm_key": key, "op_config": dynamic} for kind in own]
            if scheme in _STATIC:  # what happens inside a loop is not calibrated
                inner = f"^{INNER}[0-9]"
                rules.append({"regex": inner, "operation": "*", "algorithm_key": "no_quantize", "op_config": {}})
                if hybrid_loops:
                    hybrid = {"operation": "FULLY_CONNECTED", "algorithm_key": key, "op_config": dynamic}
                    rules.append({"regex": inner, **hybrid})
        if scheme in _STATIC and not self.integer_io:
            rules += [
                {"regex": ".*", "operation": side, "algorithm_key": "no_quantize", "op_config": {}}
                for side in ("INPUT", "OUTPUT")
            ]
        # the last rule that fits counts
        weights = {"algorithm_key": key, "op_config": _op_config("int8-weights")}
        for scope in stored:
            at = {"regex": f"^{re.escape(scope)}$"}
            rules.append({**at, "operation": "*", "algorithm_key": "no_quantize", "op_config": {}})
            rules += [{**at, "operation": kind, **weights} for kind in _LAYERS]
        rules += [
            {"regex": f"^{re.escape(scope)}$", "operation": "*", "algorithm_key": "no_quantize", "op_config": {}}
            for scope in keep
        ]
        return rules


def _scopes(content: bytes, names: frozenset[str]) -> list[str]:
    """What the library calls the operators called ``names``: the names of all outputs, each with a semicolon behind it.
    A name may have one in itself, so that only the whole scope tells ``conv`` from ``conv;1``."""
    graph = Editor(content).main()
    scopes = ([graph.name(tensor) for tensor in node.outputs] for node in graph.raw.operators)
    return ["".join(f"{name};" for name in scope) for scope in scopes if scope and scope[0] in names]


def _library_ranges(calibration: Calibration, bits: int) -> dict[str, dict[str, Any]]:
    """Ranges as the library takes them. Of 16 bits none has a scale that TFLite takes for a power of two: three such
    around a SUB have a kernel of their own, which takes no result that is wider than both sides."""
    ranges = calibration.ranges
    if bits == 16:
        ranges = {name: _beside_powers(one) for name, one in ranges.items()}
    return {
        name: {"min": np.array(one.low, np.float32), "max": np.array(one.high, np.float32)}
        for name, one in ranges.items()
    }


def _beside_powers(found: Range) -> Range:
    reach = max(-found.low, found.high)
    if reach <= 0:
        return found
    by = beside_powers(reach / 32767) * 32767 / reach
    return Range(found.low * by, found.high * by)


def _slow(content: bytes, scheme: str, integer_io: bool) -> frozenset[str]:
    """Operators that would be slower with integers; none where the user asks for a file of integers only."""
    return around_attention(content) if scheme == "int8" and not integer_io else frozenset()


def _refused_by_old(content: bytes, scheme: str) -> tuple[str, ...]:
    """What tflite-runtime 2.14 does not open, in words."""
    if scheme != "int8-dynamic" or not Editor(content).holds("TRANSPOSE_CONV"):
        return ()
    return (
        "TRANSPOSE_CONV with int8 weights and real inputs needs LiteRT; tflite-runtime 2.14 refuses the file. int8 and "
        "int8-weights run on both",
    )


def _granularity(scheme: str) -> str:
    if scheme == "int8-dynamic":
        return f"per channel; one scale a matrix in recurrent operators, {', '.join(_ONE_SCALE)}"
    whole = "recurrent operators, EMBEDDING_LOOKUP" if scheme in _STATIC else "recurrent operators"
    return f"per channel; one scale a matrix in {whole}"


def _weights(scheme: str) -> str:
    return {"fp16": "float16", "int4-weights": "int4 symmetric"}.get(scheme, "int8 symmetric")


def _op_config(scheme: str) -> dict[str, Any]:
    weight: dict[str, Any] = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    config: dict[str, Any] = {"skip_checks": False, "min_weight_elements": 0}
    if scheme in _STATIC:
        bits = _STATIC[scheme]
        activation = {"num_bits": bits, "symmetric": bits == 16, "granularity": "TENSORWISE", "dtype": "INT"}
        config |= {"activation_tensor_config": activation, "compute_precision": "INTEGER", "explicit_dequantize": False}
    elif scheme == "int8-dynamic":
        config |= {"compute_precision": "INTEGER", "explicit_dequantize": False}
    else:
        config |= {"compute_precision": "FLOAT", "explicit_dequantize": True}
    if scheme == "int4-weights":
        weight["num_bits"] = 4
    if scheme == "fp16":
        weight = {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"}
    return {**config, "weight_tensor_config": weight}


LARGEST = 2**31 - 2**20
"""Bytes of a file whose weights can all stand in the flatbuffer: its offsets end there."""


def _quantized(path: Path, content: bytes, recipe: list[dict[str, Any]], ranges: Mapping[str, Any] | None) -> bytes:
    """Runs the library on ``content``, the file at ``path`` prepared, quietly. It puts large weights behind the
    flatbuffer, where microcontrollers do not look; here they come back into it.

    Raises:
        UnsupportedError: it cannot quantize this graph; the message has its reason.
    """
    library = _library()
    with quiet_stderr(), _quiet():
        try:
            quantizer = library.Quantizer(content, recipe)
            result = quantizer.quantize(
                dict(ranges) if ranges else None, enable_progress_report=False, enable_progress_bar=False
            )
        except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            raise UnsupportedError(f"{path} cannot be quantized by {library.__name__}: {error}") from error
    made = bytes(result.quantized_model)
    return Editor(made).content() if len(made) < LARGEST and has_outside_buffers(made) else made


def _library() -> Any:
    for package in PACKAGES:
        try:
            return importlib.import_module(f"{package}.quantizer")
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
    raise RuntimeMissingError("quantizing .tflite files needs ai-edge-quantizer: pip install 'edgekit[host]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library's progress, prints and advice away from the user's terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
