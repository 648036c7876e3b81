"""ONNX -> TFLite by onnx2tf, in a worker of an environment of its own: its pins are not edgekit's.

It is used without TensorFlow (``flatbuffer_direct``). What it is given, and what its file lacks, is in
:mod:`.onnx_ends`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from edgekit.artifact import library_versions
from edgekit.converters.base import Capture, ConversionOptions, Converter, Finish, artifact_card, narrowing_notes
from edgekit.converters.onnx_ends import input_name, named, prepared
from edgekit.converters.worker import TIMEOUT_S, ConversionTransport, ConversionWorker, OtherPythonTransport
from edgekit.environments import ONNX2TF
from edgekit.errors import RuntimeMissingError, UnsupportedError
from edgekit.graph import ops
from edgekit.graph.onnx import load_onnx, nodes
from edgekit.graph.ops import Family
from edgekit.leftovers import process_folder
from edgekit.source.foreign import foreign_file
from edgekit.types import Card, Format, Network, Signature

_QUIET = {"TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
ADVICE = "Export the network itself where you have it in torch: edgekit export file.py:factory --to tflite"


class OnnxToTflite(Converter):
    """One for each export: it keeps what the file that it made is like."""

    format: ClassVar[Format] = Format.TFLITE
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "ai-edge-litert")
    background: ClassVar[bool] = True
    runs_on: str | None = "litert"
    advice: ClassVar[str] = ADVICE

    def __init__(self) -> None:
        self._signature: Signature | None = None
        self._tool = ""

    def check(self, network: Network, options: ConversionOptions) -> None:
        refuse_dynamic(options)
        if ONNX2TF.python() is None:
            raise RuntimeMissingError(
                "conversion of an ONNX file to TFLite needs onnx2tf, which wants Python 3.12 and an environment of its "
                f"own: {ONNX2TF.install}"
            )
        file = onnx_path(network)
        quantized = sorted({node.op_type for node in nodes(load_onnx(file, weights=False).graph) if _quantizes(node)})
        if quantized:
            raise UnsupportedError(
                f"{file} is quantized ({', '.join(quantized)}): convert the float file it was made from, and quantize "
                "the TFLite file"
            )

    def card(self, capture: Capture) -> Card:
        card = artifact_card(capture, self.format)
        return card if self._signature is None else replace(card, signature=self._signature)

    @property
    def versions(self) -> Mapping[str, str]:
        return {**library_versions(*self.packages), "onnx2tf": self._tool}

    def begin(self, capture: Capture, target: Path) -> Finish:
        file, signature = onnx_path(capture.network), capture.network.signature
        path = process_folder() / f"model-{os.urandom(4).hex()}.onnx"
        path.write_bytes(serialized(prepared(load_onnx(file), signature, capture.flipped, capture.back), file))
        names = [input_name(place) for place in range(len(signature.inputs))]
        late = f"onnx2tf gave no file of {file} within {TIMEOUT_S:,.0f} s and was ended. {ADVICE}"
        worker = ConversionWorker("onnx2tf", late, partial(_transport, file))
        pending = worker.ask({"model": str(path.absolute()), "target": str(target), "inputs": names})

        def finish() -> tuple[str, ...]:
            try:
                answer = pending()
            finally:
                path.unlink()
                worker.close()
            if "failed" in answer.header:
                failed = answer.header["failed"].rstrip(".")
                raise UnsupportedError(f"onnx2tf cannot convert {file}: {failed}. {ADVICE}. Nothing was published")
            (self._tool,) = answer.header["notes"]
            try:
                content, self._signature = named(answer.arrays["content"].tobytes(), capture.signature)
            except UnsupportedError as error:
                raise UnsupportedError(f"{error}. {ADVICE}. Nothing was published") from error
            target.write_bytes(content)
            return (*narrowing_notes(capture.signature), *size_notes(capture))

        return finish

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        return self.begin(capture, target)()


def onnx_path(network: Network) -> Path:
    """The ONNX file that ``network`` is."""
    file = foreign_file(network.module)
    assert file is not None and file.format is Format.ONNX  # Converter.suited chose a converter of ONNX files for it
    return file.path


def refuse_dynamic(options: ConversionOptions) -> None:
    """Raises UnsupportedError for ``--dynamic``."""
    if options.dynamic:
        raise UnsupportedError(
            "--dynamic cannot be honoured for an ONNX file, whose free axes are those it has: they stay free in ONNX, "
            "and --shape fixes them"
        )


def size_notes(capture: Capture) -> tuple[str, ...]:
    """A line for each axis that was free in the ONNX file and is 1 in the new one, unasked."""
    from edgekit.source.onnxfile import fixed_unasked

    found = fixed_unasked(capture.network, capture.options.shapes)
    return tuple(f"{axis} is free in the ONNX file and {size} in this one; --shape gives another size"
                 for axis, size in found.items())  # fmt: skip


def serialized(model: Any, file: Path) -> bytes:
    """The bytes of a model.

    Raises:
        UnsupportedError: it is too large for one file.
    """
    size = model.ByteSize()
    if size >= 2**31:
        raise UnsupportedError(f"{file} holds {size:,} bytes; one ONNX file cannot be larger than 2 GiB")
    content: bytes = model.SerializeToString()
    return content


def _quantizes(node: Any) -> bool:
    known = ops.get(Format.ONNX, node.op_type)
    return known is not None and (known.family in (Family.QUANTIZE, Family.DEQUANTIZE) or not known.plain)


def _transport(file: Path) -> ConversionTransport:
    python = ONNX2TF.python()
    subject = f"the conversion of {file} by onnx2tf"
    if python is None or python == sys.executable:
        return ConversionTransport(subject, **_QUIET)
    return OtherPythonTransport(subject, python, "onnx2tf", **_QUIET)
