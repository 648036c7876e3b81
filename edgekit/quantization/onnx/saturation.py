"""Which layers of an int8 ONNX file clip on x86 CPUs without VNNI, simulated on calibration activations.

There onnxruntime multiplies unsigned activations with signed weights by VPMADDUBSW, which adds the products of two
neighbours in 16 bits and saturates at -32,768 and 32,767 (Intel SDM, volume 2). 255 * 127 twice is 64,770. VNNI, the
dot products of ARM and the signed kernels of XNNPACK add in 32 bits. Weights of 7 bits (-64..63) cannot clip: "reduce
range". Neighbours are those of the inner axis as onnxruntime lays it out: kernel height, width, channels of the group.

The simulation gives, to the last integer, what onnxruntime 1.31 gave under QEMU's Haswell for a matrix product, and the
same uint8 outputs for six convolutions; depthwise convolutions have a kernel of their own, which does not clip.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.graph.layers import onnx_layers
from edgekit.graph.onnx import OnnxGraph, load_onnx, numeric_attributes
from edgekit.leftovers import scratch_folder
from edgekit.quantization.calibrate.observe import matched
from edgekit.quantization.onnx.attention import COLUMNS, TURNED
from edgekit.types import Array, Feed

INT16 = np.iinfo(np.int16)
_MADE = re.compile(rf"({COLUMNS}|{TURNED}|_quantized)(_\d+)?$")
"""Behind the name of float weights: that of their integers, with a number where the name was taken."""
_X86 = frozenset(("sse4_2", "avx", "avx2"))
_WIDE = frozenset(("avx_vnni", "avx512_vnni", "amx_int8"))
ROWS = 32
"""Places of one sample's output that are looked at, evenly spread."""
MATTERS = 1 / 255
"""Largest error of a layer, as a share of the span of its products' sums, that is left alone: one step of an output
in 8 bits."""


@dataclass(frozen=True, slots=True)
class Clipping:
    """What one layer loses to 16-bit sums of pairs.

    Attributes:
        weight: name of its weights in the float graph.
        axis: of the weights' scales.
        layer: of the torch module, or the operator's name.
        pairs: share of the pairs of products that clip.
        outputs: share of the outputs with such a pair.
        error: largest error of an output, as a share of the span of the exact ones.
    """

    weight: str
    axis: int
    layer: str
    pairs: float
    outputs: float
    error: float

    @property
    def matters(self) -> bool:
        """Whether it moves an output by a step of 8 bits or more."""
        return self.error > MATTERS

    def __str__(self) -> str:
        return f"{self.layer} ({self.outputs:.2%} of its outputs, by up to {self.error:.1%} of their span)"


def saturates(isa: Collection[str]) -> bool:
    """Whether a CPU with these flags (``environment()["isa"]``) adds pairs of int8 products in 16 bits."""
    return bool(_X86 & set(isa)) and not _WIDE & set(isa)


def clipping(path: Path, feeds: Iterable[Feed]) -> tuple[Clipping, ...]:
    """The layers of the int8 file at ``path`` that clip on ``feeds``: those between DequantizeLinear and
    QuantizeLinear, and products on integers that give float."""
    import onnx

    from edgekit.devices import open_runner

    model = load_onnx(path)
    layers = _layers(model)
    wanted = list(dict.fromkeys(layer.activation for layer in layers))
    present = {value.name for value in (*model.graph.output, *model.graph.input)}
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in wanted if name not in present
    ]
    model.graph.output.extend(values)
    del model.metadata_props[:]  # the card tells of other outputs
    integers = {node.input[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    counts = {layer.weight: _Count() for layer in layers}
    with scratch_folder() as folder:
        shown = folder / "shown.onnx"
        shown.write_bytes(model.SerializeToString())
        with open_runner(shown, raw=True) as runner:
            types = {spec.name: spec.dtype for spec in runner.signature.inputs}
            for feed in feeds:
                own = matched(list(types), list(feed))
                bound = {own[name]: value for name, value in feed.items()}
                for name, dtype in types.items():
                    if dtype == "uint8" and name in integers:
                        bound[name] = _as_integers(model, integers[name], bound[name])
                seen = {**bound, **runner.run(bound)}
                for layer in layers:
                    for rows, columns in layer.products(seen[layer.activation]):
                        counts[layer.weight].add(rows, columns)
    layer_of = onnx_layers(path.read_bytes())
    found = [
        Clipping(layer.weight, layer.axis, layer_of(layer.name) or layer.name, *counts[layer.weight].shares())
        for layer in layers
    ]
    return tuple(one for one in found if one.pairs > 0)


def _as_integers(model: Any, dequantize: Any, values: Array) -> Array:
    """Real values as an integer input of the file takes them."""
    from onnx import numpy_helper

    constants = OnnxGraph(model.graph).constants
    scale, zero = (numpy_helper.to_array(constants[name]) for name in dequantize.input[1:3])
    return np.asarray(np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8))


def pair_sums(rows: Array, columns: Array) -> tuple[Array, Array, Array]:
    """Matrix product of uint8 (M, K) and int8 (K, N) as VPMADDUBSW makes it, and exactly; int32 (M, N) each, and how
    many pairs clipped in each."""
    even = np.concatenate([rows, np.zeros((len(rows), rows.shape[1] % 2), rows.dtype)], 1).astype(np.int32)
    tall = np.concatenate([columns, np.zeros((len(columns) % 2, columns.shape[1]), columns.dtype)]).astype(np.int32)
    shape = (len(rows), columns.shape[1])
    clipped, count = even @ tall, np.zeros(shape, np.int32)
    exact = clipped.copy()
    reach = even.max(0, initial=0)
    bound = np.abs(tall[0::2]) * reach[0::2, None] + np.abs(tall[1::2]) * reach[1::2, None]
    for pair in np.flatnonzero(bound.max(1, initial=0) > INT16.max):
        a, b = 2 * pair, 2 * pair + 1
        total = even[:, a, None] * tall[None, a] + even[:, b, None] * tall[None, b]
        over = total - np.clip(total, INT16.min, INT16.max)
        clipped -= over
        count += over != 0
    return clipped, exact, count


class _Count:
    """What clipped so far."""

    def __init__(self) -> None:
        self.pairs = self.all_pairs = self.outputs = self.all_outputs = 0
        self.error = self.low = self.high = 0

    def add(self, rows: Array, columns: Array) -> None:
        clipped, exact, count = pair_sums(rows, columns)
        self.pairs += int(count.sum())
        self.all_pairs += count.size * ((len(columns) + 1) // 2)
        self.outputs += int((count > 0).sum())
        self.all_outputs += count.size
        self.error = max(self.error, int(np.abs(clipped - exact).max(initial=0)))
        self.low, self.high = min(self.low, int(exact.min(initial=0))), max(self.high, int(exact.max(initial=0)))

    def shares(self) -> tuple[float, float, float]:
        outputs = max(self.all_outputs, 1)
        return self.pairs / max(self.all_pairs, 1), self.outputs / outputs, self.error / max(self.high - self.low, 1)


@dataclass(frozen=True)
class _Layer:
    """A convolution or matrix product on integers; ``columns``: its int8 weights, (K, N) for each group."""

    name: str
    weight: str
    axis: int
    activation: str
    columns: tuple[Array, ...]
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    zero: int = 0

    def products(self, values: Array) -> Iterable[tuple[Array, Array]]:
        """Rows (M, K) of the activation for each group, with its columns."""
        if not self.kernel:
            rows = values.reshape(-1, values.shape[-1])
            yield _some(rows, len(values)), self.columns[0]
            return
        for number, part in enumerate(np.split(values, len(self.columns), axis=1)):
            yield _some(self._patches(part), len(values)), self.columns[number]

    def _patches(self, values: Array) -> Array:
        """(N, C, H, W) -> (N * places, kernel height * width * C)"""
        sides = [(0, 0), (0, 0), *zip(self.pads[:2], self.pads[2:], strict=True)]
        padded = np.pad(values, sides, constant_values=self.zero)
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
        windows = windows[:, :, :: self.strides[0], :: self.strides[1], :: self.dilations[0], :: self.dilations[1]]
        n, c, h, w, kh, kw = windows.shape
        return windows.transpose(0, 2, 3, 4, 5, 1).reshape(n * h * w, kh * kw * c)


def _some(rows: Array, samples: int) -> Array:
    step = max(1, len(rows) // (ROWS * max(samples, 1)))
    return rows[::step]


def _layers(model: Any) -> list[_Layer]:
    from onnx import numpy_helper

    graph = OnnxGraph(model.graph)
    constants, maker = graph.constants, graph.makers
    found = []
    for node in model.graph.node:
        if node.op_type == "MatMulIntegerToFloat" and node.input[1] in constants:
            integers = numpy_helper.to_array(constants[node.input[1]])
            about = (_MADE.sub("", node.input[1]), 1, node.input[0])
            found.append(_Layer(node.name, *about, (integers,)))
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        sides = [maker.get(name) for name in node.input[:2]]
        if any(side is None or side.op_type != "DequantizeLinear" for side in sides):
            continue
        data, weight = (side for side in sides if side is not None)
        if weight.input[0] not in constants or data.input[0] in constants:
            continue
        integers = numpy_helper.to_array(constants[weight.input[0]])
        zero = numpy_helper.to_array(constants[data.input[2]]) if len(data.input) > 2 else np.uint8(0)
        if integers.dtype != np.int8 or zero.dtype != np.uint8:
            continue
        axis = numeric_attributes(weight).get("axis", 1)
        name = _MADE.sub("", weight.input[0])
        layer = _layer(node, (name, axis, data.input[0]), integers, int(zero))
        found += [] if layer is None else [layer]
    return found


def _layer(node: Any, about: tuple[str, int, str], integers: Array, zero: int) -> _Layer | None:
    given: Mapping[str, Any] = {a.name: a for a in node.attribute}
    if node.op_type != "Conv":
        turned = node.op_type == "Gemm" and "transB" in given and given["transB"].i
        if integers.ndim != 2 or ("transA" in given and given["transA"].i):
            return None
        return _Layer(node.name, *about, (integers.T if turned else integers,))
    groups = given["group"].i if "group" in given else 1
    if integers.ndim != 4 or (groups > 1 and integers.shape[1] == 1):
        return None  # depthwise
    if "auto_pad" in given and given["auto_pad"].s not in (b"", b"NOTSET", b"VALID"):
        return None
    columns = tuple(part.transpose(2, 3, 1, 0).reshape(-1, len(part)) for part in np.split(integers, groups))
    numbers = {key: tuple(given[key].ints) if key in given else (1, 1) for key in ("strides", "dilations")}
    pads = tuple(given["pads"].ints) if "pads" in given else (0, 0, 0, 0)
    return _Layer(
        node.name, *about, columns, tuple(integers.shape[2:]), numbers["strides"], numbers["dilations"], pads, zero
    )
