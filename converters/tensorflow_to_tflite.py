"""SavedModel -> TFLite by TensorFlow's own converter, in a worker.

TensorFlow operators that TFLite has not (Flex) are let in only where it cannot do without, and are then named.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

from edgekit.converters.base import Capture, ConversionOptions, Converter
from edgekit.converters.worker import TIMEOUT_S, ConversionTransport, ConversionWorker, write_file
from edgekit.environments import FLEX
from edgekit.errors import RuntimeMissingError, UnsupportedError
from edgekit.source.foreign import RunnerModule
from edgekit.types import Card, Format, Network


class TensorflowToTflite(Converter):
    format: ClassVar[Format] = Format.TFLITE
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tensorflow-cpu", "keras")

    def check(self, network: Network, options: ConversionOptions) -> None:
        if importlib.util.find_spec("tensorflow") is None:
            raise RuntimeMissingError(
                "conversion of a SavedModel needs tensorflow, which is not installed here: pip install "
                "'edgekit[tensorflow]'"
            )
        for given, option in ((options.dynamic, "--dynamic"), (options.channels_last, "--channels-last")):
            if given:
                raise UnsupportedError(
                    f"{option} cannot be honoured for a SavedModel: its shapes and layout are those of its signature"
                )

    def card(self, capture: Capture) -> Card:
        """The network's card: TensorFlow keeps the types and names of the signature."""
        return capture.network.card

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        module = capture.network.module
        assert isinstance(module, RunnerModule)  # Converter.suited chose this converter for it
        name = capture.network.name
        late = f"tensorflow gave no file for {name!r} within {TIMEOUT_S:,.0f} s"
        worker = ConversionWorker("tensorflow", late, _transport)
        try:
            answer = worker.ask({"folder": str(module.artifact.path.absolute()), "target": str(target)})()
        finally:
            worker.close()
        if "failed" in answer.header:
            failed = answer.header["failed"]
            raise UnsupportedError(f"tensorflow cannot convert {name!r}: {failed}. Replace that operation in the model")
        flex = write_file(answer, target)
        self.runs_on = "tensorflow" if flex else "litert"
        if not flex:
            return ()
        python = FLEX.apart()
        if python:
            self.proved_on = f"python:{python}"
        return (
            f"needs TensorFlow's own operators (Flex: {', '.join(flex)}): it runs where TensorFlow brings them (up to "
            "2.19, --on python:PATH of an environment with it), not with litert or tflite-runtime",
        )


def _transport() -> ConversionTransport:
    return ConversionTransport("the conversion by tensorflow", CUDA_VISIBLE_DEVICES="")
