"""The error of a forecast by hand, and the two forecasts that need no model."""

import numpy as np
import pytest

from edgekit.data import Dataset
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality.evaluate import evaluate
from edgekit.quality.forecast import as_forecaster, baselines
from edgekit.quality.metrics import metric_of
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")

TASK = Task("forecasting", (), "mse", {"target": "b", "horizon": 2, "mean": 10.0, "std": 2.0})
CONTRACT = InputSpec("series", mean=(0.0, 10.0), std=(1.0, 2.0), columns=("a", "b"), params={"history": 4})
SIGNATURE = Signature((TensorSpec("series", "float32", (1, 4, 2)),), (TensorSpec("forecast", "float32", (1, 2)),))
CARD = Card("f", "custom", TASK, SIGNATURE, {"series": CONTRACT})


def data(**params):
    """Two windows; the target b is 10, 12, 10, 12 and then 14, 12, and the same plus 2."""
    b = np.array([[10, 12, 10, 12], [12, 14, 12, 14]], np.float32)
    windows = np.stack([np.zeros((2, 4), np.float32), b], 2)
    targets = np.array([[14, 12], [16, 14]], np.float32)
    known = {"target": "b", "history": 4, "horizon": 2, "season": 2, "mean": (0.0, 10.0), "std": (1.0, 2.0)}
    return Dataset(
        "s", "test", "series", {"series": windows}, columns=("a", "b"), targets=targets, params={**known, **params}
    )


class Model:
    """Says the same two standardised values for every sample; records what it was fed."""

    def __init__(self, values, signature=SIGNATURE):
        self.signature, self.values, self.fed = signature, values, []

    def run(self, feed):
        self.fed.append(feed["series"])
        name = self.signature.outputs[0].name
        return {name: np.tile(np.float32(self.values), (len(feed["series"]), 1))}


def test_by_hand():
    """Standardised targets are (2, 1) and (3, 2); the model says (2, 2): errors (0, 1) and (-1, 0)."""
    model = Model([2, 2])
    found = evaluate(model, data(), CARD)
    assert (found.metric, found.total, found.data, found.lower_is_better) == ("mse", 2, "s@test", True)
    assert found.value == pytest.approx(2 / 4)
    assert found.details["mae"] == pytest.approx(2 / 4)
    # the last two rows are standardised (0, 1) and (1, 2): errors (2, 0) and (2, 0)
    assert found.details["mse_repeating_last_2"] == pytest.approx(8 / 4)
    # the last value is 1 and 2: errors (1, 0) and (1, 0)
    assert found.details["mse_repeating_last_value"] == pytest.approx(2 / 4)
    assert model.fed[0][0, :, 1].tolist() == [0, 1, 0, 1]  # normalised by the spec


def test_a_limit_and_a_better_model():
    assert evaluate(Model([2, 1]), data(), CARD, limit=1).value == 0.0
    worse = evaluate(Model([2, 2]), data(), CARD, limit=1)
    better = evaluate(Model([2, 1.5]), data(), CARD, limit=1)
    assert worse.total == 1 and better.value < worse.value
    assert better.drop_to(worse) == pytest.approx((0.5 - 0.125) / 0.125)  # an error that rose


def test_seasons_of_other_lengths():
    long = baselines(data(season=4), TASK, 2)
    # rows 1 and 2 of four: standardised (0, 1) and (1, 2)
    assert long["mse_repeating_last_4"] == pytest.approx(8 / 4)
    short = baselines(data(season=1), TASK, 2)
    assert short["mse_repeating_last_1"] == short["mse_repeating_last_value"]
    assert list(baselines(data(season=5), TASK, 2)) == ["mse_repeating_last_value"]  # longer than the history


def test_what_cannot_be_measured():
    with pytest.raises(ModelError, match="NaN in 'forecast'"):
        evaluate(Model([2, np.nan]), data(), CARD)
    for name, value in (("target", "a"), ("horizon", 3)):
        with pytest.raises(DataError, match=f"say series:FILE.csv,{name}="):
            evaluate(Model([2, 2]), data(**{name: value}), CARD)
    wide = Signature(SIGNATURE.inputs, (TensorSpec("y", "float32", (1, 5)),))
    with pytest.raises(UnsupportedError, match="a forecast of 2 steps needs an output of that width"):
        evaluate(Model([0] * 5, wide), data(), CARD)
    images = Dataset("d", "test", "image", {"image": np.zeros((1, 8, 8, 1), np.uint8)}, np.zeros(1, np.int64), ("a",))
    with pytest.raises(DataError, match="no values to forecast"):
        evaluate(Model([2, 2]), images, CARD)


def test_other_shapes_of_the_output():
    column = Signature(SIGNATURE.inputs, (TensorSpec("y", "float32", (1, 2, 1)),))
    assert evaluate(Model([2, 2], column), data(), CARD).value == pytest.approx(2 / 4)


def test_other_figures_are_in_the_units_of_the_outputs():
    """The same errors as by hand, (0, 1) and (-1, 0): values in raw units are brought to those of the answers."""
    found = metric_of("mae")(Model([2, 2]), data(), CARD, None)
    assert (found.metric, found.value) == ("mae", pytest.approx(2 / 4))
    assert found.details["rmse"] == pytest.approx((2 / 4) ** 0.5)


def test_a_network_of_the_users_own_learns_its_target_from_the_data():
    spec = InputSpec("series", mean=(0.0, 10.0), std=(1.0, 2.0), params={"history": 4})
    own = Card("f", "custom", Task("forecasting"), SIGNATURE, {"series": spec})
    card = as_forecaster(own, data())
    assert card.task == TASK and card.contract["series"].columns == ("a", "b")
    assert evaluate(Model([2, 2]), data(), own).value == pytest.approx(2 / 4)
    raw = as_forecaster(Card("f", "custom", Task(), SIGNATURE), data())
    assert raw.task.params == {"target": "b", "horizon": 2}, (
        "without mean and std forecasts are in the units of the data"
    )
    assert raw.contract["series"].columns == ("a", "b")
    assert evaluate(Model([14, 12]), data(), Card("f", "custom", Task(), SIGNATURE)).value == pytest.approx(8 / 4)
    assert as_forecaster(CARD, data(target="a")) is CARD, "what a card says stays"


def test_a_network_that_reads_other_columns():
    narrow = Signature((TensorSpec("series", "float32", (1, 4, 5)),), SIGNATURE.outputs)
    with pytest.raises(DataError, match="has the columns a, b and forecasts 'b'; name the columns"):
        as_forecaster(Card("f", "custom", Task(), narrow), data())
