from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.extras import denormals
from edgekit.extras.denormals import counts, float_weights, flush_to_zero
from edgekit.runtime import load


def test_denormal_numbers_are_counted_by_their_type() -> None:
    singles = np.array([0, -0.0, 1e-40, -1e-40, 1.2e-38, 1, np.nan, np.inf], np.float32)
    doubles = np.array([1e-40, 1e-310], np.float64)
    halves = np.array([1e-5, 1e-4], np.float16)
    assert counts([singles]) == {"weights": 8, "denormal": 2}
    assert counts([doubles]) == {"weights": 2, "denormal": 1}
    assert counts([halves]) == {"weights": 2, "denormal": 1}
    assert counts([]) == {"weights": 0, "denormal": 0}


def test_weights_of_every_format(files: ModuleType, tmp_path: Path) -> None:
    import torch

    net = torch.nn.Linear(4, 3)
    torch.export.save(torch.export.export(net.eval(), (torch.ones(1, 4),)), tmp_path / "net.pt2")
    made = (files.dense_tflite(tmp_path / "d.tflite"), files.dense_onnx(tmp_path / "d.onnx"), tmp_path / "net.pt2")
    for path in made:
        with load(path) as runner:
            assert sum(array.size for array in float_weights(runner)) == 15  # 4 x 3 and 3


def test_integer_weights_are_none_of_them(files: ModuleType, tmp_path: Path) -> None:
    with load(files.conv_int8_tflite(tmp_path / "c.tflite")) as runner:
        assert list(float_weights(runner)) == []


@pytest.mark.parametrize("flush", [False, True])
def test_flush_to_zero_makes_them_zero_in_its_thread(flush: bool) -> None:
    def product() -> float:
        if flush:
            flush_to_zero()
        return float((np.full(64, 1e-39, np.float32) * np.float32(0.5))[0])

    with ThreadPoolExecutor(1) as pool:
        assert (pool.submit(product).result() == 0) is flush
    assert np.full(64, 1e-39, np.float32)[0] * np.float32(0.5) > 0  # this thread has not changed


def test_a_machine_without_the_switch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denormals.platform, "machine", lambda: "pdp11")
    with pytest.raises(UnsupportedError, match="cannot be set on pdp11"):
        flush_to_zero()
