"""NNCF's int8 of an ONNX file with its defaults: ``nncf_here.py MODEL.onnx SAMPLES.npz TARGET.onnx``.

It runs in OpenVINO's environment and imports nothing of edgekit. An array of SAMPLES holds one sample an entry.
"""

from __future__ import annotations

import sys

import numpy as np


def main(model: str, samples: str, target: str) -> None:
    import nncf  # type: ignore[import-not-found]
    import onnx

    with np.load(samples) as file:
        arrays = dict(file)
    count = len(next(iter(arrays.values())))
    feeds = [{name: array[k][None] for name, array in arrays.items()} for k in range(count)]
    onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(feeds), subset_size=count), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
