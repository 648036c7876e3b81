from __future__ import annotations

import pytest

from edgekit.extras.roofline import Peaks, Work, position
from edgekit.extras.roofline.work import UNKNOWN_LOOP, Call, Tensor, macs, total


def call(kind: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], times: int = 1) -> Call:
    return Call(kind, tuple(Tensor(shape) for shape in inputs), (Tensor(output),), times)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (call("Conv", [(1, 3, 8, 8), (16, 3, 3, 3), (16,)], (1, 16, 8, 8)), 16 * 64 * 27),
        (call("Conv", [(1, 16, 8, 8), (16, 1, 3, 3)], (1, 16, 8, 8)), 16 * 64 * 9),  # depthwise
        (call("QLinearConv", [(1, 3, 8, 8), (), (), (16, 3, 3, 3)], (1, 16, 8, 8)), 16 * 64 * 27),
        (call("CONV_2D", [(1, 8, 8, 3), (16, 3, 3, 3), (16,)], (1, 8, 8, 16)), 16 * 64 * 27),
        (call("DEPTHWISE_CONV_2D", [(1, 8, 8, 16), (1, 3, 3, 16)], (1, 8, 8, 16)), 16 * 64 * 9),
        (call("ConvTranspose", [(1, 8, 4, 4), (8, 5, 3, 3)], (1, 5, 8, 8)), 8 * 16 * 5 * 9),
        (call("TRANSPOSE_CONV", [(4,), (5, 3, 3, 8), (1, 4, 4, 8)], (1, 8, 8, 5)), 8 * 16 * 5 * 9),
        (call("MatMul", [(2, 4, 5, 6), (2, 4, 6, 7)], (2, 4, 5, 7)), 8 * 5 * 6 * 7),
        (call("Gemm", [(6, 5), (6, 7)], (5, 7)), 5 * 6 * 7),  # transA
        (call("Gemm", [(1, 64), (10,)], (1, 10)), 640),  # the weights packed away
        (call("BATCH_MATMUL", [(1, 6, 5), (1, 6, 7)], (1, 5, 7)), 5 * 6 * 7),  # adj_x
        (call("FULLY_CONNECTED", [(3, 4), (5, 4), (5,)], (3, 5)), 60),
        (call("aten.addmm", [(5,), (3, 4), (4, 5)], (3, 5)), 60),
        (call("LSTM", [(10, 2, 3)], (10, 1, 2, 4)), 10 * 2 * 4 * 4 * (3 + 4)),
        (call("GRU", [(10, 2, 3)], (10, 2, 2, 4)), 10 * 2 * 2 * 3 * 4 * (3 + 4)),  # both directions
        (call("UNIDIRECTIONAL_SEQUENCE_RNN", [(2, 10, 3)], (2, 10, 4)), 20 * 4 * 7),
        (call("Relu", [(1, 3)], (1, 3)), 0),
        (call("Conv", [(1, 3, 8, 8)], (1, 16, 8, 8)), None),  # the trace does not show the weights
        (Call(UNKNOWN_LOOP, (), ()), None),
    ],
)
def test_by_hand(made: Call, wanted: int | None) -> None:
    assert macs(made) == wanted


def test_totals() -> None:
    rows = [
        call("FULLY_CONNECTED", [(1, 4), (5, 4)], (1, 5), times=3),
        call("RELU", [(1, 5)], (1, 5)),
        Call(UNKNOWN_LOOP, (), ()),
    ]
    found = total(rows)
    assert found["macs"] == 60
    assert found["bytes"] == 4 * (3 * (4 + 20 + 5) + 10)
    assert found["types"] == [{"type": "FULLY_CONNECTED", "macs": 60}]
    assert found["uncounted"] == [{"type": UNKNOWN_LOOP, "calls": 1}]


def test_position_under_either_roof() -> None:
    peaks = Peaks(flops_per_s=100e9, bytes_per_s=10e9, memory_bytes_per_s=10e9)
    dense = position(Work(macs=50_000_000, bytes=1_000_000), peaks, 2.0)
    assert (dense.bound, dense.intensity) == ("compute", 100)
    assert dense.attained_flops_per_s == pytest.approx(50e9)
    assert dense.share_of_roof == pytest.approx(0.5)
    thin = position(Work(macs=500_000, bytes=1_000_000), peaks, 1.0)
    assert (thin.bound, thin.roof_flops_per_s) == ("memory", pytest.approx(10e9))
    assert thin.share_of_roof == pytest.approx(0.1)
    assert position(Work(macs=0, bytes=0), peaks, 1.0).share_of_roof is None
    narrow = position(Work(macs=10**9, bytes=10**6, narrow_macs=10**6), peaks, 0.001)
    assert (narrow.bound, narrow.share_of_roof, narrow.share_of_compute_peak) == ("memory", None, None)
