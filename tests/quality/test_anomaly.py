"""Anomaly scores by hand, the area under the ROC curve against scikit-learn, and the threshold."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edgekit.data import Dataset
from edgekit.data.dataset import split_indices
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality.anomaly import area, refit_threshold, roc_auc, score
from edgekit.quality.evaluate import evaluate, measurable
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")

SPEC = TensorSpec("table", "float32", (1, 2))
SIGNATURE = Signature((SPEC,), (TensorSpec("reconstruction", "float32", (1, 2)),))
CONTRACT = {"table": InputSpec("table", mean=(0.0, 0.0), std=(1.0, 1.0), columns=("a", "b"))}


def card(**params):
    task = Task("anomaly", metric="roc_auc", params={"held_out": "odd", "percentile": 50.0, **params})
    return Card("a", "custom", task, SIGNATURE, CONTRACT)


def data(values, labels, classes=("even", "odd")):
    rows = np.float32(values)[:, None] * np.float32([[1, 0]])
    return Dataset("d", "test", "table", {"table": rows}, np.asarray(labels), classes, ("a", "b"))


class Zeros:
    """Gives back zeros, so that the score of (v, 0) is v^2 / 2."""

    signature = SIGNATURE

    def run(self, feed):
        return {"reconstruction": np.zeros_like(feed["table"])}


@pytest.mark.parametrize("values", [40, 3])  # 3 values only: mostly ties
def test_the_area_is_scikit_learns(values):
    rng = np.random.default_rng(values)
    scores = rng.integers(0, values, 300) / 7.0
    labels = rng.random(300) < 0.2
    # one part in 10^12: both are sums of 300 numbers in float64
    assert area(scores[labels], scores[~labels]) == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)


def test_the_area_by_hand():
    assert area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert area(np.array([0.0]), np.array([1.0, 2.0])) == 0.0
    assert area(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    with pytest.raises(ValueError, match="both kinds"):
        area(np.array([]), np.array([1.0]))


def test_the_score_is_the_mean_squared_difference():
    given = {"x": np.float32([[1, 2], [0, 0]])}
    np.testing.assert_array_equal(score(given, {"y": np.float32([[1, 0], [3, 3]])}), [2.0, 9.0])


def test_the_score_of_a_file_that_takes_its_images_channels_last():
    image = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    assert score({"x": image}, {"y": image.transpose(0, 3, 1, 2)}).tolist() == [0.0, 0.0]


def test_what_is_not_a_reconstruction_has_no_score():
    with pytest.raises(UnsupportedError, match=r"the input has shape \(1, 2\), the output \(1, 3\)"):
        score({"x": np.zeros((1, 2))}, {"y": np.zeros((1, 3))})


def test_a_figure_by_hand():
    """Anomalies score 2 and 8, normal samples 0.5, 4.5 and 0: five of six pairs are in order."""
    samples = data([2, 4, 1, 3, 0], [1, 1, 0, 0, 0])
    found = evaluate(Zeros(), samples, card(threshold=1.0))
    assert (found.metric, found.total, found.correct) == ("roc_auc", 5, None)
    assert found.value == pytest.approx(5 / 6)
    assert dict(found.per_class) == {"even": found.value}
    assert found.details == {
        "held_out": "odd", "anomalies": 2, "threshold": 1.0, "caught": 1.0, "false_alarms": pytest.approx(1 / 3),
    }  # fmt: skip
    assert not found.lower_is_better
    assert "threshold" not in evaluate(Zeros(), samples, card()).details


def test_each_normal_class_has_its_own_area():
    found = roc_auc(Zeros(), data([3, 1, 5], [0, 1, 2], ("low", "high", "odd")), card(), None)
    assert found.per_class == {"low": 1.0, "high": 1.0}
    found = roc_auc(Zeros(), data([9, 1, 5], [0, 1, 2], ("low", "high", "odd")), card(), None)
    assert found.per_class == {"low": 0.0, "high": 1.0}


def test_the_threshold_is_a_percentile_of_normal_scores():
    """Normal scores are 0.5, 2 and 4.5; the anomaly's 50 does not count."""
    task = refit_threshold(Zeros(), data([1, 2, 3, 10], [0, 0, 0, 1]), card(threshold=9.0))
    assert task.params["threshold"] == 2.0
    assert task.params["threshold_rule"] == "percentile 50 of the scores of 3 normal samples of d@test"
    assert task.params["held_out"] == "odd"
    unlabelled = Dataset("d", "test", "table", {"table": np.float32([[4, 0]])}, columns=("a", "b"))
    assert refit_threshold(Zeros(), unlabelled, card()).params["threshold"] == 8.0


def test_of_what_was_trained_on_only_the_held_out_share_counts():
    """Half of six normal samples, seed 0: the same samples that the training loop holds out."""
    values = np.arange(1, 7)
    samples = data([*values, 50], [0] * 6 + [1])
    _, held = split_indices(6, np.zeros(6, np.int64), 0.5, 0)
    known = card(unseen={"data": "d@test", "share": 0.5, "seed": 0})
    task = refit_threshold(Zeros(), samples, known)
    assert task.params["threshold"] == np.median(values[held] ** 2 / 2)
    assert task.params["threshold_rule"].endswith("of 3 normal samples of d@test that training did not see")
    elsewhere = card(unseen={"data": "other@train", "share": 0.5, "seed": 0})
    assert "6 normal samples of d@test" in refit_threshold(Zeros(), samples, elsewhere).params["threshold_rule"]


def test_data_without_the_class():
    with pytest.raises(DataError, match=r"no class 'odd'; it has: a, b"):
        roc_auc(Zeros(), data([1, 2], [0, 1], ("a", "b")), card(), None)
    with pytest.raises(DataError, match="2 of 2 samples"):
        roc_auc(Zeros(), data([1, 2], [1, 1]), card(), None)
    with pytest.raises(DataError, match=r"0 of 1 samples .* larger limit"):
        roc_auc(Zeros(), data([1, 2], [0, 1]), card(), 1)
    with pytest.raises(DataError, match="no normal samples"):
        refit_threshold(Zeros(), data([1, 2], [1, 1]), card())
    unlabelled = Dataset("d", "test", "table", {"table": np.zeros((2, 2), np.float32)}, columns=("a", "b"))
    with pytest.raises(DataError, match="no labels"):
        roc_auc(Zeros(), unlabelled, card(), None)


def test_whether_data_can_measure():
    assert measurable(data([1, 2], [0, 1]), card())
    assert not measurable(data([1, 2], [0, 0]), card())
    assert not measurable(data([1, 2], [0, 1], ("a", "b")), card())


def test_a_model_that_gives_nan():
    class Broken(Zeros):
        def run(self, feed):
            return {"reconstruction": np.full_like(feed["table"], np.nan)}

    with pytest.raises(ModelError, match="NaN in 'reconstruction' for samples 0 to 0"):
        roc_auc(Broken(), data([1, 2], [0, 1]), card(), None)


def test_a_card_that_does_not_name_the_class():
    bare = Card("a", "custom", Task("anomaly"), SIGNATURE, CONTRACT)
    with pytest.raises(ModelError, match="held_out"):
        roc_auc(Zeros(), data([1, 2], [0, 1]), bare, None)
