"""What another tool makes of a float file with the same samples: ``real_peers.py TOOL MODEL CALIBRATION TARGET``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from real_bare import feed_of, opened

Feeds = list[dict[str, object]]


def onnxruntime_static(model: Path, feeds: Feeds, target: Path) -> None:
    """``quantize_static`` with the options that suit x86 best, after ``quant_pre_process`` without its symbolic shapes:
    they stop at graphs that converters of TensorFlow and JAX wrote."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from other_tools import onnxruntime_static as static

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        try:
            static(prepared, feeds, activation_type=QuantType.QUInt8, per_channel=True)(target)
        except ValueError as error:  # the tool cannot adjust every bias to scales by channel
            print(f"by channel: {error}; now by tensor", file=sys.stderr)
            static(prepared, feeds, activation_type=QuantType.QUInt8)(target)


def ai_edge(number: int, model: Path, feeds: Feeds, target: Path) -> None:
    """One of Google's own recipes."""
    from other_tools import ai_edge_quantizer_defaults

    list(ai_edge_quantizer_defaults(model, feeds))[number][1](target)


def main(tool: str, model: str, calibration: str, target: str) -> None:
    with np.load(calibration) as file:
        arrays = dict(file)
    ranks, _ = opened(model)
    count = len(next(iter(arrays.values())))
    feeds = [feed_of(arrays, ranks, number) for number in range(count)]
    if tool == "onnxruntime-static":
        onnxruntime_static(Path(model), feeds, Path(target))
    else:
        ai_edge(("ai-edge-static", "ai-edge-dynamic").index(tool), Path(model), feeds, Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
