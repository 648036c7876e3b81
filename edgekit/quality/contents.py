"""What a model file holds, read from the file itself: its operators and its signature, whoever made it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import pt2_reader, pte_reader
from edgekit.errors import ModelError
from edgekit.graph.onnx import OnnxGraph, load_onnx
from edgekit.graph.tflite import enum_names, holds_data, kind_of, read_tflite, text
from edgekit.iospec import read_iospec
from edgekit.quality import saved_model
from edgekit.reading import reading
from edgekit.tflite_metadata_reader import foreign_card
from edgekit.types import Artifact, Card, Dim, Format, Signature, Task, TensorSpec

log = logging.getLogger("edgekit")
PT2_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool",
    13: "bfloat16",
}  # fmt: skip
"""torch._export.serde.schema.ScalarType -> numpy's name."""


def operators(artifact: Artifact) -> dict[str, int]:
    """Operator name -> how often it stands in the file, bodies of loops and branches included; most frequent first.

    ONNX operators of another domain than the standard one carry it (``com.microsoft::QGemm``); TFLite custom
    operators have their own name; ``.pt2`` operators are ATen's, and so are those of ExecuTorch's own kernels in a
    ``.pte``, whose parts for XNNPACK have that library's names (``XNNPACK::Conv2d``).

    Raises:
        ModelError: the file cannot be read.
    """
    read = {
        Format.ONNX: _onnx_names, Format.TFLITE: _tflite_names, Format.PT2: _pt2_names,
        Format.PTE: _pte_names, Format.SAVED_MODEL: saved_model.operator_names,
    }  # fmt: skip
    with reading(artifact.path, ModelError, f"a graph of {artifact.format}"):
        found = Counter(read[artifact.format](artifact.path))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def file_signature(artifact: Artifact) -> Signature:
    """Inputs and outputs as the file itself has them, integer ones as integers.

    Raises:
        ModelError: the file cannot be read.
    """
    read = {
        Format.ONNX: _onnx_signature, Format.TFLITE: _tflite_signature, Format.PT2: _pt2_signature,
        Format.PTE: _pte_signature, Format.SAVED_MODEL: saved_model.signature,
    }  # fmt: skip
    with reading(artifact.path, ModelError, f"a graph of {artifact.format}"):
        return read[artifact.format](artifact.path)


# ---------------------------------------------------------------- ONNX


def _onnx_names(path: Path) -> Iterator[str]:
    model = load_onnx(path, weights=False)
    graphs = [model.graph, *model.functions]
    while graphs:
        for node in graphs.pop().node:
            domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
            yield f"{domain}{node.op_type}"
            for attribute in node.attribute:
                graphs.extend(attribute.graphs)
                if attribute.HasField("g"):
                    graphs.append(attribute.g)


def _onnx_signature(path: Path) -> Signature:
    graph = load_onnx(path, weights=False).graph
    constants = OnnxGraph(graph).constants
    inputs = tuple(_onnx_spec(value) for value in graph.input if value.name not in constants)
    return Signature(inputs, tuple(_onnx_spec(value) for value in graph.output))


def _onnx_spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape: list[Dim] = []
    for index, dim in enumerate(tensor.shape.dim):
        shape.append(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{index}")
    known = tensor.elem_type in onnx.TensorProto.DataType.values() and tensor.elem_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if known else "unknown"
    return TensorSpec(value.name, dtype, tuple(shape))


# ---------------------------------------------------------------- TFLite


def _tflite_names(path: Path) -> Iterator[str]:
    model = read_tflite(path)
    for graph in model.subgraphs:
        yield from (kind_of(model, op) for op in graph.operators)


def _tflite_signature(path: Path) -> Signature:
    model = read_tflite(path)
    graph = model.subgraphs[0]
    types = {value: name.lower() for value, name in enum_names("TensorType").items()}
    given = (model.signatureDefs or [None])[0]

    def specs(indices: Any, named: Any) -> tuple[TensorSpec, ...]:
        names = {entry.tensorIndex: text(entry.name) for entry in named or ()}
        made = []
        for index in indices:
            tensor = graph.tensors[index]
            name = names.get(index) or text(tensor.name)
            extents = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
            shape = tuple(
                int(d) if d >= 0 else f"{name}_{axis}" for axis, d in enumerate(extents if extents is not None else ())
            )
            made.append(TensorSpec(name, types[tensor.type], shape))
        return tuple(made)

    inputs = [index for index in graph.inputs if not holds_data(model, graph.tensors[index])]
    return Signature(specs(inputs, given and given.inputs), specs(graph.outputs, given and given.outputs))


# ---------------------------------------------------------------- PTE


def _pte_names(path: Path) -> Iterator[str]:
    for call in pte_reader.calls(path.read_bytes()):
        yield f"XNNPACK::{call.name}" if call.by == pte_reader.XNNPACK else call.name


def _pte_signature(path: Path) -> Signature:
    return pte_reader.signature(path.read_bytes())


# ---------------------------------------------------------------- PT2


def _pt2_program(path: Path) -> Any:
    """The graph and the signature of an exported program as JSON; read without torch, and nothing is unpickled."""
    found = pt2_reader.program(path).get("graph_module")
    if not isinstance(found, dict):
        raise ModelError(f"{path} cannot be read as .pt2: its program has no graph; {pt2_reader.WAY_OUT}")
    return found


@contextmanager
def _as_program(path: Path) -> Iterator[None]:
    """Raises ModelError where a program does not have the fields that torch writes."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{path} cannot be read as .pt2: its program is not as torch writes it ({type(error).__name__}: {error}); "
            f"{pt2_reader.WAY_OUT}"
        ) from error


def _pt2_names(path: Path) -> list[str]:
    with _as_program(path):
        return [str(node["target"]).removeprefix("torch.ops.") for node in _pt2_program(path)["graph"]["nodes"]]


def may_write_buffers(path: Path) -> bool:
    """Whether a ``.pt2`` program writes its own buffers while it runs, and so keeps state from run to run.

    A program that has buffers and operators that write in place counts, whatever it is that they write.

    Raises:
        ModelError: the file cannot be read.
    """
    program = _pt2_program(path)
    in_place = any(name.rpartition(".")[0].endswith("_") for name in _pt2_names(path))  # aten.add_.Tensor
    with _as_program(path):
        if any("buffer_mutation" in row for row in program["signature"]["output_specs"]):
            return True
        return in_place and any("buffer" in row for row in program["signature"]["input_specs"])


def _pt2_signature(path: Path) -> Signature:
    with _as_program(path):
        return _signature_of(_pt2_program(path))


def _signature_of(program: Any) -> Signature:
    values = program["graph"]["tensor_values"]

    def specs(rows: Any, key: str) -> tuple[TensorSpec, ...]:
        names = [row[key]["arg"]["as_tensor"]["name"] for row in rows if "as_tensor" in row.get(key, {}).get("arg", {})]
        return tuple(TensorSpec(n, PT2_DTYPES.get(values[n]["dtype"], "unknown"), _pt2_shape(values[n])) for n in names)

    found = program["signature"]
    return Signature(specs(found["input_specs"], "user_input"), specs(found["output_specs"], "user_output"))


def _pt2_shape(value: Any) -> tuple[Dim, ...]:
    return tuple(d["as_int"] if "as_int" in d else str(d["as_expr"]["expr_str"]) for d in value["sizes"])


def with_iospec(artifact: Artifact, io_file: str | Path | None) -> Artifact:
    """``artifact`` with what the file ``io.toml`` says of its inputs and outputs on its card; as it is without one.
    Below that stands what :func:`with_foreign_metadata` finds.

    Raises:
        DataError, UsageError: the file cannot be read, or does not fit the model.
        ModelError: the model cannot be read.
    """
    described = with_foreign_metadata(artifact)
    if io_file is None:
        if described is not artifact and described.card is not None:
            log.info("%s: %s", artifact.path.name, described.card.notes[0])
        return described
    artifact = described
    card = artifact.card or Card(artifact.path.stem, "custom", Task(), file_signature(artifact))
    return replace(artifact, card=read_iospec(io_file).applied(card))


def with_foreign_metadata(artifact: Artifact) -> Artifact:
    """``artifact``, where it is a TFLite file without a card, with the card that its TFLite Metadata stand for: labels,
    and how a picture becomes its input. Metadata that cannot be used are said to be, and left aside.

    Raises:
        ModelError: the model cannot be read.
    """
    if artifact.card is not None or artifact.format is not Format.TFLITE:
        return artifact
    signature = file_signature(artifact)
    try:
        return replace(artifact, card=foreign_card(artifact.path.read_bytes(), artifact.path.stem, signature))
    except ModelError as error:
        log.warning("%s: %s; they are not used", artifact.path.name, error)
        return artifact
