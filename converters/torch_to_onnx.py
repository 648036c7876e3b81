"""torch -> ONNX by the dynamo exporter: one self-contained file, names kept.

Each node keeps the names of the modules it came from (``pkg.torch.onnx.name_scopes``), which is how a failed proof
names a layer. Stack traces, which hold paths of the machine, are taken out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgekit.converters.base import Capture, ConversionOptions, Converter, cause, detail, quiet
from edgekit.converters.older_opset import lowered
from edgekit.errors import ConversionError, UnsupportedError
from edgekit.graph.onnx import graphs
from edgekit.types import Format, Network

if TYPE_CHECKING:
    import onnx

DEFAULT_OPSET = 18
"""The set that torch's translation is written in, so that nothing is converted twice; read since onnxruntime 1.14."""
OPSETS = range(13, 26)
"""Sets that onnxscript's version converter reaches from 18, and below 18 onnx's own; onnxruntime 1.31 reads all."""
LIMIT_BYTES = 2**31 - 2**20
"""Protobuf holds less than 2 GiB in one message; a MiB is left for the graph."""
WORTH = 0.1
"""Share of the operators that simplification must save to be kept."""
NAME_SCOPES = "pkg.torch.onnx.name_scopes"


class TorchToOnnx(Converter):
    format: ClassVar[Format] = Format.ONNX
    packages: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript", "onnxslim", "onnxruntime")

    def suited(self, network: Network) -> Converter:
        from edgekit.source.foreign import is_onnx

        if is_onnx(network.module):
            from edgekit.converters.onnx_to_onnx import OnnxToOnnx

            return OnnxToOnnx()
        return super().suited(network)

    def check(self, network: Network, options: ConversionOptions) -> None:
        opset = options.opset
        if opset is not None and opset not in OPSETS:
            raise UnsupportedError(
                f"ONNX opset {opset} cannot be written; there are {OPSETS.start} to {OPSETS.stop - 1} "
                f"({DEFAULT_OPSET} is read by most runtimes)"
            )
        size = sum(t.numel() * t.element_size() for t in network.module.state_dict().values())
        if size > LIMIT_BYTES:
            raise UnsupportedError(
                f"{network.name} holds {size:,} bytes of weights; a single ONNX file cannot be larger than 2 GiB. Use "
                "--to "
                "pt2, or make the network smaller (half precision, pruning)"
            )

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        import torch

        from edgekit.converters.recurrent.onnx_layers import export

        opset = capture.options.opset or DEFAULT_OPSET
        signature = capture.signature
        program = capture.program
        try:
            with quiet(), torch.no_grad():
                exported, notes = export(
                    program,
                    capture.prefix,
                    dynamo=True,
                    input_names=[spec.name for spec in signature.inputs],
                    output_names=[spec.name for spec in signature.outputs],
                    opset_version=max(opset, DEFAULT_OPSET),
                    verbose=False,
                    external_data=False,
                )
                assert exported is not None  # an ExportedProgram always gives an ONNXProgram
                model = exported.model_proto
        except Exception as error:
            raise ConversionError(
                "onnx",
                f"the ONNX exporter cannot write {capture.network.name!r}: {cause(error)}",
                "Replace that operation in the network, or export to another format",
                detail(error),
            ) from error
        found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        if found.get("ai.onnx") != max(opset, DEFAULT_OPSET):
            raise UnsupportedError(
                f"{capture.network.name!r} cannot be written in ONNX opset {opset}: the exporter stopped at "
                f"{found.get('ai.onnx')}; use --opset {DEFAULT_OPSET}"
            )
        model = _simplified(model)
        if opset < DEFAULT_OPSET:
            model = lowered(model, opset)
        _tidy(model, capture)
        target.write_bytes(model.SerializeToString())
        return tuple(notes)


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after onnxslim where that saves :data:`WORTH` of the operators, else as it came.

    It folds the slices and concatenations that turn torch's recurrent weights into ONNX's (62 operators become 7 for
    a 2-layer bidirectional LSTM, which then loads in a tenth of the time); on a cnn it changes nothing. What it makes
    is proved like everything else.
    """
    import onnx
    import onnxslim

    original = onnx.ModelProto()
    original.CopyFrom(model)
    with quiet():
        slim = onnxslim.slim(original)
    if slim is None or len(slim.graph.node) > (1 - WORTH) * len(model.graph.node):
        return model
    origin = {name: node for node in model.graph.node for name in node.output}
    for node in slim.graph.node:  # it forgets which module an operator came from
        for name in node.output:
            if name in origin and not node.metadata_props:
                node.metadata_props.extend(origin[name].metadata_props)
    return slim


def _tidy(model: onnx.ModelProto, capture: Capture) -> None:
    """Names dynamic dimensions as the user did; takes out traces, paths and the prefix of a layout change."""
    names = {}
    for value, spec in zip(model.graph.input, capture.signature.inputs, strict=True):
        for dim, wanted in zip(value.type.tensor_type.shape.dim, spec.shape, strict=True):
            if isinstance(wanted, str) and dim.dim_param:
                names[dim.dim_param] = wanted
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = _renamed(dim.dim_param, names)
    for graph in graphs(model.graph):
        for node in graph.node:
            scopes = [entry.value for entry in node.metadata_props if entry.key == NAME_SCOPES]
            del node.metadata_props[:]
            node.doc_string = ""
            if scopes:
                node.metadata_props.add(key=NAME_SCOPES, value=_own_scopes(scopes[0], capture.prefix))
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    if capture.prefix:
        _rename_weights(model.graph, capture.prefix)


def _own_scopes(text: str, prefix: str) -> str:
    """The exporter's list of module names, without those of adapters."""
    scopes = ast.literal_eval(text)
    return str([name.removeprefix(prefix) for name in scopes if not (name and prefix.startswith(f"{name}."))])


def _rename_weights(graph: onnx.GraphProto, prefix: str) -> None:
    """Weights under the names they have in the user's module."""
    taken = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    names = {t.name: t.name.removeprefix(prefix) for t in graph.initializer if t.name.startswith(prefix)}
    names = {old: new for old, new in names.items() if new not in taken}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    for inner in graphs(graph):
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda match: names.get(match.group(), match.group()), text)
