"""Transposed convolutions (``nn.ConvTranspose2d``) in TFLite with the fastest kernels. Imported by the worker only.

Three things stand in the way in a file as litert-torch writes it:

- TFLite's TRANSPOSE_CONV gives all places that its kernel reaches, or as many as stride times the input has
  (``VALID``, ``SAME``). Of other paddings, of output paddings beside a padding and of dilations litert-torch makes
  what its converter refuses, or what no runtime opens.
- On an input of one pixel, as at the start of a DCGAN generator, the layer is a dense one. litert-torch writes a
  convolution over a padded input, in which all but one of the pixels are zeros.
- The bias has the shape ``[1, 1, 1, channels]``. TFLite's own kernel takes it, but XNNPACK wants ``[channels]`` and
  leaves the operator to the slower kernel.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

_SHAPE_SLOT = 4
"""Of ``shape`` in the table of a tensor."""


def one_pixel_to_dense(module: fx.GraphModule) -> None:
    """Makes dense layers of transposed convolutions of ``module`` whose input is one pixel, in place.

    (B, C, 1, 1) -> (B, C) -> (B, K·K·O) -> (B, O, K, K). A batch normalisation that follows goes into its weights, as
    litert-torch does behind other convolutions. Left alone: groups, padding, dilation, computed weights, and
    a free batch, since litert-torch 0.10 reshapes to fixed sizes only.
    """
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.conv_transpose2d.input and _on_one_pixel(node):
            _make_dense(module, node)
    module.graph.lint()
    module.recompile()


def plain_padding(module: fx.GraphModule) -> None:
    """Writes transposed convolutions of ``module`` whose padding TFLite does not have as one without, cut to the places
    that are wanted, in place; with zeros between the places of a dilated kernel. It computes the same.
    """
    for node in list(module.graph.nodes):
        if node.target in _CONVOLUTIONS and not _is_plain(module, node):
            _cut(module, node)
    module.graph.lint()
    module.recompile()


_CONVOLUTIONS = (torch.ops.aten.conv_transpose1d.default, torch.ops.aten.conv_transpose2d.input)


def _is_plain(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether litert-torch writes ``node`` as it is: without padding, or with the one at which the output has stride
    times the places of the input."""
    _, _, stride, padding, output_padding, _, dilation, kernel = _spread(module, node)
    same = all(k - 2 * p == s for k, p, s in zip(kernel, padding, stride, strict=True)) and not any(output_padding)
    return set(dilation) == {1} and (same or not any(padding))


def _spread(module: fx.GraphModule, node: fx.Node) -> tuple[Any, ...]:
    """Arguments of a transposed convolution from its weight on, a number for each axis of the image, and the kernel."""
    _, weight, bias, *numbers = _arguments(node)
    kernel = (_attribute(module, weight) if weight.op == "get_attr" else weight.meta["val"]).shape[2:]

    def each(given: Any) -> list[int]:
        return [int(given[k % len(given)]) for k in range(len(kernel))]

    stride, padding, output_padding, groups, dilation = numbers
    return weight, bias, each(stride), each(padding), each(output_padding), groups, each(dilation), list(kernel)


def _cut(module: fx.GraphModule, node: fx.Node) -> None:
    weight, bias, stride, padding, output_padding, groups, dilation, kernel = _spread(module, node)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = zip(reach, output_padding, padding, stride, strict=True)
    # litert-torch 0.10 cannot cut out of a free batch: with a kernel that is longer by zeros the padding is ``SAME``
    longer = _has_free_sizes(node.args[0]) and all(r + o - 2 * p == s for r, o, p, s in sizes)
    if set(dilation) != {1} or longer:
        if weight.op != "get_attr":
            return
        reach = [r + o for r, o in zip(reach, output_padding, strict=True)] if longer else reach
        weight = _with_zeros(module, node, weight, reach, dilation)
    aten, graph, none = torch.ops.aten, module.graph, [0] * len(stride)
    beyond = none if longer else [max(0, o - p) for o, p in zip(output_padding, padding, strict=True)]
    with graph.inserting_before(node):
        whole = [node.args[0], weight, bias, stride, padding if longer else none, beyond, groups, [1] * len(stride)]
        result = _call(graph, node.target, *whole)
        for axis, (front, extra) in enumerate(zip(padding, output_padding, strict=True), 2):
            if front and not longer:
                result = _call(
                    graph, aten.slice.Tensor, result, axis, front, extra - front if extra < front else sys.maxsize
                )
    node.replace_all_uses_with(result)
    graph.eliminate_dead_code()


def _has_free_sizes(x: Any) -> bool:
    return not all(isinstance(size, int) for size in x.meta["val"].shape)


def _with_zeros(module: fx.GraphModule, node: fx.Node, weight: fx.Node, sizes: list[int], steps: list[int]) -> fx.Node:
    """The kernel of ``weight`` with its values ``steps`` apart, from the front of ``sizes`` places."""
    value = _attribute(module, weight)
    wide = value.new_zeros(*value.shape[:2], *sizes)
    reach = zip(value.shape[2:], steps, strict=True)
    places: tuple[Any, ...] = (..., *(slice(0, (k - 1) * step + 1, step) for k, step in reach))
    wide[places] = value
    with module.graph.inserting_before(node):
        return _constant(module, node, "wide", wide)


def _on_one_pixel(node: fx.Node) -> bool:
    x, weight, bias, _, padding, output_padding, groups, dilation = _arguments(node)
    constants = all(value is None or value.op == "get_attr" for value in (weight, bias))
    plain = groups == 1 and not any((*padding, *output_padding)) and set(dilation) == {1}
    batch, _, *size = x.meta["val"].shape
    return bool(constants and plain and isinstance(batch, int) and size == [1, 1])


def _arguments(node: fx.Node) -> tuple[Any, ...]:
    """Arguments of ``aten.conv_transpose2d``, defaults included."""
    defaults = (None, None, None, (1, 1), (0, 0), (0, 0), 1, (1, 1))
    return (*node.args, *defaults[len(node.args) :])


def _make_dense(module: fx.GraphModule, node: fx.Node) -> None:
    x, weight_node, bias_node, *_ = _arguments(node)
    weight = _attribute(module, weight_node)  # (C, O, K, L)
    channels, outputs, height, width = weight.shape
    bias = None if bias_node is None else _attribute(module, bias_node)
    end = node
    norm = next(iter(node.users))
    if norm.target is torch.ops.aten.batch_norm.default and len(node.users) == 1 and not norm.args[5]:
        weight, bias = fuse_conv_bn_weights(weight, bias, *_statistics(module, norm), True)
        end = norm
    # in the order of TFLite's images, channels last, so that nothing has to be transposed before the next layer
    rows = weight.permute(2, 3, 1, 0).reshape(height * width * outputs, channels).contiguous()
    aten = torch.ops.aten
    graph = module.graph
    with graph.inserting_before(node):
        constants = [_constant(module, node, "weight", rows)]
        if bias is not None:
            constants.append(_constant(module, node, "bias", bias.repeat(height * width)))
        batch = x.meta["val"].shape[0]
        flat = _call(graph, aten.view.default, x, [batch, channels])
        dense = _call(graph, aten.linear.default, flat, *constants)
        image = _call(graph, aten.view.default, dense, [batch, height, width, outputs])
        result = _call(graph, aten.permute.default, image, [0, 3, 1, 2])
    end.replace_all_uses_with(result)
    graph.eliminate_dead_code()


def _statistics(module: fx.GraphModule, norm: fx.Node) -> tuple[Any, Any, Any, Any, Any]:
    """Mean, variance, epsilon, scale and shift of ``aten.batch_norm``, in the order of ``fuse_conv_bn_weights``."""
    arguments: Any = norm.args
    scale, shift, mean, variance = (None if a is None else _attribute(module, a) for a in arguments[1:5])
    return mean, variance, arguments[7], scale, shift


def _call(graph: fx.Graph, target: Any, *arguments: Any) -> fx.Node:
    made = graph.call_function(target, arguments)
    made.meta["val"] = target(*fx.map_arg(arguments, lambda node: node.meta["val"]))
    return made


def _constant(module: fx.GraphModule, node: fx.Node, what: str, value: Tensor) -> fx.Node:
    name = f"{node.name}_{what}"
    module.register_buffer(name, value)
    made = module.graph.get_attr(name)
    made.meta["val"] = node.meta["val"].new_empty(value.shape)
    return made


def _attribute(module: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value.detach()


def flat_biases(content: bytes) -> bytes:
    """The file with biases of ``TRANSPOSE_CONV`` of the shape ``[channels]``; nothing is moved."""
    model = schema.Model.GetRootAsModel(content, 0)
    data = bytearray(content)
    codes = [model.OperatorCodes(k).BuiltinCode() for k in range(model.OperatorCodesLength())]
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        owners = [_shape_vector(graph.Tensors(k)) for k in range(graph.TensorsLength())]
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            is_transposed = codes[operator.OpcodeIndex()] == schema.BuiltinOperator.TRANSPOSE_CONV
            if is_transposed and operator.InputsLength() > 3 and operator.Inputs(3) >= 0:
                vector = owners[operator.Inputs(3)]
                if owners.count(vector) == 1:  # written once a tensor; a shared one stays as it is
                    _flatten(data, vector)
    return bytes(data)


def _shape_vector(tensor: Any) -> int:
    """Where the sizes of a tensor begin; their number stands in the four bytes before."""
    offset = tensor._tab.Offset(_SHAPE_SLOT)
    return int(tensor._tab.Vector(offset)) if offset else 0


def _flatten(data: bytearray, vector: int) -> None:
    """[1, 1, 1, n] -> [n], in place; the sizes after the first are no longer read."""
    (count,) = struct.unpack_from("<I", data, vector - 4)
    sizes = struct.unpack_from(f"<{count}i", data, vector)
    if count > 1 and set(sizes[:-1]) == {1}:
        struct.pack_into("<Ii", data, vector - 4, 1, sizes[-1])
