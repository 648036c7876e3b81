"""Which layer of the torch module an operator comes from, as the file tells it: ``blocks.0.conv1``.

ONNX: torch's exporter writes ``pkg.torch.onnx.name_scopes`` into the metadata of each node, and onnxruntime keeps the
names of nodes or of their outputs in what it fuses. TFLite: litert-torch names each tensor after the classes and
attributes it passed, ``net.ResNet/torch.nn.Sequential_stem/torch.nn.Conv2d_0;``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from edgekit.protobuf_reader import fields

_SCOPES = b"pkg.torch.onnx.name_scopes"
_MODEL_GRAPH, _GRAPH_NODE, _NODE_OUTPUT, _NODE_NAME, _NODE_METADATA = 7, 1, 2, 3, 9
_RENAMED = re.compile(r"(_nchwc|_token_\d+|_quantized|_QuantizeLinear|_DequantizeLinear)+$")
"""What onnxruntime and its quantizer put behind a name they took over."""
_OWN = re.compile(r"([A-Za-z_][\w.]*)/l\d+[^/]*/")
"""Tensors of edgekit's own recurrent operators: ``layers/l0/h``."""


def onnx_layers(data: bytes) -> Callable[[str], str | None]:
    """Name of an operator of the optimized graph -> layer, None where the file tells nothing of it.

    Raises:
        ModelError: ``data`` is not an ONNX file.
    """
    known: dict[str, str] = {}
    for number, _, _, begin, close in fields(data):
        if number != _MODEL_GRAPH:
            continue
        for inner, _, _, b, c in fields(data, begin, close):
            if inner == _GRAPH_NODE:
                known |= _node_layer(data, b, c)

    def layer_of(name: str) -> str | None:
        short = name.removeprefix("fused ").partition("/")[0]
        for candidate in (name, short, _RENAMED.sub("", short)):
            if candidate in known:
                return known[candidate]
        return None

    return layer_of


def _node_layer(data: bytes, begin: int, close: int) -> dict[str, str]:
    """Node name and output names -> layer, nothing for a node without scopes."""
    names, layer = [], None
    for number, _, _, b, c in fields(data, begin, close):
        if number in (_NODE_OUTPUT, _NODE_NAME):
            names.append(bytes(data[b:c]).decode("utf-8", "replace"))
        elif number == _NODE_METADATA:
            entry = {n: bytes(data[x:y]) for n, _, _, x, y in fields(data, b, c)}
            if entry.get(1) == _SCOPES:
                layer = _last_scope(entry.get(2, b"").decode("utf-8", "replace"))
    return {} if layer is None else dict.fromkeys(names, layer)


def _last_scope(text: str) -> str | None:
    """``"['', 'stem', 'stem.0', 'conv2d']"`` -> ``stem.0``: the last but one; the last is the operator itself."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return None
    return scopes[-2] if len(scopes) > 1 else ""


def tflite_layer(tensor: str) -> str | None:
    """The layer of a tensor of litert-torch: ``net.Net/torch.nn.Sequential_stem/torch.nn.Conv2d_0;`` -> ``stem.0``.

    Of several (the converter folds a normalisation and an activation into a convolution and keeps all names) the
    innermost counts, of those the last: the convolution. None for a name of another make.
    """
    own = _OWN.match(tensor)
    if own is not None:
        return own[1]
    found = [layer for part in reversed(tensor.split(";")) if part and (layer := _path(part)) is not None]
    return max(found, key=lambda layer: layer.count(".") + bool(layer)) if found else None


def _path(part: str) -> str | None:
    classes = part.split("/")
    if "." not in classes[0] or not classes[0][:1].isalpha():
        return None  # arith.constant, a plain name: not a class of a module
    attributes = []
    for place in classes[1:]:
        kind, _, attribute = place.rpartition(".")
        name, underscore, rest = attribute.partition("_")
        if not kind or not underscore or not name:
            return None
        attributes.append(rest)
    return ".".join(attributes) if classes[0].count(".") and _is_class(classes[0]) else None


def _is_class(text: str) -> bool:
    return text.rpartition(".")[2][:1].isupper()
