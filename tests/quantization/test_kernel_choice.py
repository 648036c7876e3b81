"""The cheapest assignment of operators to integers and float, against assignments counted by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgekit.quantization.kernel_choice import WORTH_OF_SIZE, Conversion, Kernel, choose

pytestmark = pytest.mark.usefixtures("kept_workers")

CHEAP = Conversion(1.0, 1.0)


def kernel(name: str, integer: float | None, real: float | None, reads: str, writes: str, **weights: int) -> Kernel:
    return Kernel(name, name.upper(), integer, real, weights, tuple(reads.split()), tuple(writes.split()))


def test_an_operator_with_a_slow_integer_kernel_stays_in_float_between_two_that_gain() -> None:
    chain = [kernel("a", 10, 30, "x", "p"), kernel("b", 300, 5, "p", "q"), kernel("c", 10, 30, "q", "y")]
    assert choose(chain, dict.fromkeys("xpqy", CHEAP), ["x"], ["y"]) == {"b"}


def test_conversions_can_cost_more_than_they_gain() -> None:
    # on integers alone b saves 3, and its two conversions take 4
    chain = [kernel("a", 90, 30, "x", "p"), kernel("b", 2, 5, "p", "q"), kernel("c", 90, 30, "q", "y")]
    costly = dict.fromkeys("xpqy", Conversion(2.0, 2.0))
    assert choose(chain, costly, ["x"], ["y"]) == {"a", "b", "c"}
    assert choose(chain, dict.fromkeys("xpqy", CHEAP), ["x"], ["y"]) == {"a", "c"}


def test_a_tensor_is_converted_once_for_all_its_readers() -> None:
    # three readers gain 2 each on integers, one conversion of p takes 5: less than the 6 they gain
    readers = [kernel(f"r{k}", 1, 3, "p", f"y{k}") for k in range(3)]
    tensors = {"x": CHEAP, "p": Conversion(5.0, 5.0), **{f"y{k}": Conversion(0.0, 0.0) for k in range(3)}}
    outputs = [f"y{k}" for k in range(3)]
    assert choose([kernel("a", None, 3, "x", "p"), *readers], tensors, ["x"], outputs) == {"a"}
    fewer = [kernel("a", None, 3, "x", "p"), *readers[:2]]
    assert choose(fewer, tensors, ["x"], outputs[:2]) == {"a", "r0", "r1"}


def test_an_operator_that_crashes_on_integers_stays_in_float_and_one_without_float_on_integers() -> None:
    chain = [kernel("a", None, 1e9, "x", "p"), kernel("b", 1e9, None, "p", "y")]
    assert choose(chain, dict.fromkeys("xpy", CHEAP), ["x"], ["y"]) == {"a"}


def test_who_shares_weights_shares_a_side() -> None:
    # alone b would stay in float
    both = [kernel("a", 10, 90, "x", "p", w=0), kernel("b", 40, 10, "p", "y", w=0)]
    assert choose(both, dict.fromkeys("xpy", CHEAP), ["x"], ["y"]) == frozenset()
    apart = [kernel("a", 10, 90, "x", "p", w=0), kernel("b", 40, 10, "p", "y", v=0)]
    assert choose(apart, dict.fromkeys("xpy", CHEAP), ["x"], ["y"]) == {"b"}


def test_weights_as_integers_are_worth_a_part_of_the_time() -> None:
    # all weights are in b; the float file takes 100, so they are worth 10
    assert WORTH_OF_SIZE == 0.1
    free = dict.fromkeys("xpy", Conversion(0.0, 0.0))
    for loss, kept in ((9, frozenset()), (11, {"b"})):
        chain = [kernel("a", 10, 50, "x", "p"), kernel("b", 50 + loss, 50, "p", "y", w=1000)]
        assert choose(chain, free, ["x"], ["y"]) == kept


@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_takes_less(seed: int) -> None:
    """Against all assignments of a random graph of seven operators with branches."""
    random = np.random.default_rng(seed)
    tensors = ["x"]
    kernels = []
    for place in range(7):
        reads = {str(random.choice(tensors)) for _ in range(int(random.integers(1, 3)))}
        times = random.integers(1, 20, 2)
        kernels.append(kernel(f"k{place}", float(times[0]), float(times[1]), " ".join(sorted(reads)), f"t{place}"))
        tensors.append(f"t{place}")
    cost = {name: Conversion(*map(float, random.integers(0, 8, 2))) for name in tensors}
    outputs = [name for name in tensors if name != "x" and not any(name in one.reads for one in kernels)]

    def takes(floats: frozenset[str]) -> float:
        side = {"x": True} | {one.writes[0]: one.name in floats for one in kernels}
        total = sum((one.float_ns if one.name in floats else one.integer_ns) or 0.0 for one in kernels)
        for name in tensors:
            readers = [one.name in floats for one in kernels if name in one.reads] + [True] * outputs.count(name)
            if side[name] and not all(readers):
                total += cost[name].quantize_ns
            if not side[name] and any(readers):
                total += cost[name].dequantize_ns
        return total

    names = [one.name for one in kernels]
    every = [frozenset(n for n, kept in zip(names, row, strict=True) if kept) for row in product((0, 1), repeat=7)]
    assert takes(choose(kernels, cost, ["x"], outputs)) == min(map(takes, every))
