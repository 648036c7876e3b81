"""What the other tools make of a float file with their default recipes, for the tables that stand beside edgekit's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgekit.flatbuffer_reader import without_prefix

Feeds = Sequence[Any]
"""Calibration samples: dicts of arrays by input name."""
Tool = tuple[str, Callable[[Path], None]]
"""A recipe's name, and what writes its file."""


def onnxruntime_defaults(path: Path, feeds: Feeds) -> Iterator[Tool]:
    """onnxruntime's quantizers as its documentation calls them."""
    yield "onnxruntime static, defaults (int8 activations)", onnxruntime_static(path, feeds)

    def dynamic(target: Path) -> None:
        import onnx
        from onnxruntime.quantization import quantize_dynamic

        model = onnx.load(str(path))
        del model.graph.value_info[:]  # the tool stops at the shapes it makes invalid itself
        quantize_dynamic(model, str(target))

    yield "onnxruntime dynamic, defaults", dynamic


def onnxruntime_static(path: Path, feeds: Feeds, **options: Any) -> Callable[[Path], None]:
    """``quantize_static`` with QuantizeLinear and DequantizeLinear pairs, and ``options``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.waiting = iter(feeds)

        def get_next(self) -> Any:
            return next(self.waiting, None)

    return lambda target: quantize_static(str(path), str(target), Reader(), quant_format=QuantFormat.QDQ, **options)


def ai_edge_quantizer_defaults(path: Path, feeds: Feeds) -> Iterator[Tool]:
    """Google's quantizer with its own recipes for integers."""
    from ai_edge_quantizer import recipe

    def made(target: Path, chosen: Any, calibrated: bool) -> None:
        from ai_edge_quantizer import quantizer

        plain = without_prefix(path.read_bytes())  # the tool would write the card as a part of the model
        tool = quantizer.Quantizer(plain, chosen())
        result = tool.calibrate({_signature(path): list(feeds)}) if calibrated else None
        tool.quantize(result).export_model(str(target), overwrite=True)

    yield "ai-edge-quantizer static_wi8_ai8", lambda target: made(target, recipe.static_wi8_ai8, True)
    yield "ai-edge-quantizer dynamic_wi8_afp32", lambda target: made(target, recipe.dynamic_wi8_afp32, False)


def _signature(path: Path) -> str:
    from ai_edge_litert.interpreter import Interpreter

    return str(next(iter(Interpreter(model_path=str(path)).get_signature_list())))
