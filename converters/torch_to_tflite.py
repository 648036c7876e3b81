"""torch -> TFLite by litert-torch, in a worker process.

The captured program travels as a ``.pt2`` file in a private folder; the worker is started in the background when an
export begins (its import costs seconds, which the ONNX export uses) and kept for later conversions of this process.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edgekit.converters.base import Capture, ConversionOptions, Converter, Finish, narrowing_notes
from edgekit.converters.sent import program_sent
from edgekit.converters.worker import TIMEOUT_S, ConversionTransport, ConversionWorker, write_file
from edgekit.errors import ConversionError, RuntimeMissingError
from edgekit.types import Format, Network


class TorchToTflite(Converter):
    format: ClassVar[Format] = Format.TFLITE
    packages: ClassVar[tuple[str, ...]] = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")
    background: ClassVar[bool] = True

    def suited(self, network: Network) -> Converter:
        from edgekit.source.foreign import foreign_file

        file = foreign_file(network.module)
        if file is not None and file.format is Format.ONNX:
            from edgekit.converters.onnx_to_tflite import OnnxToTflite

            return OnnxToTflite()
        if file is not None:
            from edgekit.converters.tensorflow_to_tflite import TensorflowToTflite

            return TensorflowToTflite()
        return self

    def check(self, network: Network, options: ConversionOptions) -> None:
        import importlib.util

        if importlib.util.find_spec("litert_torch") is None:
            raise RuntimeMissingError(
                "conversion to TFLite needs litert-torch, which is not installed here: pip install 'edgekit[host]'"
            )

    def warm_up(self) -> None:
        WORKER.start()

    def begin(self, capture: Capture, target: Path) -> Finish:
        WORKER.start()
        signature = capture.signature
        pending = program_sent(
            WORKER,
            capture.program,
            {
                "target": str(target),
                "inputs": [spec.name for spec in signature.inputs],
                "outputs": [spec.name for spec in signature.outputs],
                "dynamic": [
                    {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} or None
                    for spec in signature.inputs
                ],
                "minimum": capture.minimum,
                "maximum": capture.maximum,
                "prefix": capture.prefix,
            },
        )

        def finish() -> tuple[str, ...]:
            answer = pending()
            if "failed" not in answer.header:
                return (*narrowing_notes(signature), *write_file(answer, target))
            advice = "Replace that operation in the network, or export to another format"
            if capture.dims:
                advice = f"It may convert with fixed sizes: leave {', '.join(capture.dims)} out for TFLite"
            failed, detail = answer.header["failed"].rstrip("."), answer.header["detail"]
            raise ConversionError(
                "tflite", f"litert-torch cannot convert {capture.network.name!r}: {failed}", advice, detail
            )

        return finish

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        return self.begin(capture, target)()


def _transport() -> ConversionTransport:
    settings = {"LITERT_TORCH_SHOW_PROGRESS": "n", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    return ConversionTransport("the conversion to TFLite", **settings)


WORKER = ConversionWorker(
    "litert",
    f"litert-torch gave no file within {TIMEOUT_S:,.0f} s and was ended; a smaller or simpler network (shorter "
    "sequences) converts faster",
    _transport,
)
"""The one of this process."""
