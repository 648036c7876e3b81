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


def test_the_way_of_a_picture_in_words():
    rule = InputSpec("image", "NCHW", (32, 24), 3, 1 / 255, (0.5,) * 3, (0.25,) * 3, params={"shorter": 40})
    assert rule.formula() == (
        "image of 32 x 24 (height x width) in RGB, laid out as NCHW, the shorter side resized to 40 and the centre cut "
        "out: (pixel / 255 - mean) / std, mean 0.5 0.5 0.5, std 0.25 0.25 0.25"
    )
    assert InputSpec("image", "NHWC", None, 1, 1.0).formula() == "image in grey, laid out as NHWC: pixel"
    assert "BGR" in InputSpec("image", "NCHW", None, 3, 0.5, params={"color": "BGR"}).formula()
    assert InputSpec("table", mean=(1.0,), std=(2.0,)).formula() == "table, mean 1, std 2"
