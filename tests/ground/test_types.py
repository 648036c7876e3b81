import numpy as np
import pytest

from edgekit.errors import EdgekitError, GateError, InputError, ModelError
from edgekit.types import InputSpec, Latency, Signature, TensorSpec, percentile_ns


def test_named_dimensions_resolve_to_one_or_to_what_is_given():
    spec = TensorSpec("x", "float32", ("batch", 3, "width"))
    assert spec.resolved() == (1, 3, 1)
    assert spec.resolved({"width": 7}) == (1, 3, 7)
    assert Signature((spec,), ()).dynamic_dims == ("batch", "width")


def test_a_contract_in_words():
    assert str(InputSpec("image", "NCHW", (32, 24), 3, 1 / 255)) == "image NCHW, 32x24, 3 channels, times 0.00392"
    many = InputSpec("table", mean=(1.0,) * 9, std=(2.5,) * 9, params={"length": 7, "vocabulary": "a b c"})
    assert str(many) == "table, mean 1 1 1 1 …, std 2.5 2.5 2.5 2.5 …, length 7"


def test_percentile_is_nearest_rank():
    samples = np.array([5, 1, 4, 2, 3])
    assert [percentile_ns(samples, p) for p in (0, 20, 21, 50, 100)] == [1, 1, 2, 3, 5]
    with pytest.raises(ValueError):
        percentile_ns(np.array([]), 50)


@pytest.mark.parametrize(("percent", "needed"), [(50, 11), (90, 64), (99, 662), (99.9, 6636)])
def test_a_percentile_needs_its_samples(percent, needed):
    assert Latency(np.full(needed - 1, 1000)).percentile_ms(percent) is None
    assert Latency(np.full(needed, 1000)).percentile_ms(percent) == 0.001


def test_exit_codes_follow_the_tree():
    assert ModelError("x").exit_code == InputError("x").exit_code == 3
    assert issubclass(GateError, EdgekitError) and GateError.exit_code == 1
