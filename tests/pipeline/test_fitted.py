"""Fine-tuning by task: what a network learns from the answers that the data have, or by a loss of the user's own."""

from __future__ import annotations

import logging
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.artifact import open_artifact
from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, UsageError
from edgekit.options.train import FinetuneOptions
from edgekit.pipeline.finetune import CUSTOM, finetune
from edgekit.pipeline.fitted import at_size, fitted_to, task_for
from edgekit.pipeline.prune import prune
from edgekit.pipeline.train import LEAST_STEPS, settings_for, size_for, train
from edgekit.source import resolve

NET = """
    import numpy as np, torch
    from torch import nn

    def one():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.zeros(1, 4)

    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head, self.kind = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1), nn.Linear(4, 2)
        def forward(self, image):
            x = torch.relu(self.first(image))
            return {"kind": self.kind(x.mean((2, 3))), "mask": self.head(x)}

    def masks():
        torch.manual_seed(0)
        return Masks(), torch.zeros(1, 3, 8, 8), {"mean": [0.5], "std": [0.25], "task": "segmentation"}

    def unsaid():
        return masks()[:2]

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)
        def forward(self, left, right):
            return self.layer(left * right)

    def pair():
        torch.manual_seed(0)
        return Pair(), {"left": torch.zeros(1, 4), "right": torch.zeros(1, 4)}

    def rows(split):
        rng = np.random.default_rng(split == "test")
        return rng.standard_normal((24, 4)).astype(np.float32)

    def values(split):
        return [(row, float(1000 + 300 * row[0])) for row in rows(split)]

    def labels(split):
        return [(row, (row[:3] > 0).astype(np.int64)) for row in rows(split)]

    def places(split):
        return [({"left": row, "right": row}, float(row.sum())) for row in rows(split)]

    def boxes(split):
        return [(row, {"boxes": row[:2].reshape(1, 2)}) for row in rows(split)]

    def three(split):
        return pictures(split, 3)

    def pictures(split, classes=2):
        rng = np.random.default_rng(split == "test")
        for _ in range(16):
            mask = rng.integers(0, classes, (8, 8))
            mask[0, 0] = 255
            yield np.repeat((mask % 255 * 100).astype(np.uint8)[..., None], 3, -1), mask

    def photos(split):
        return [(np.full((8, 8, 3), 200 * (k % 2), np.uint8), k % 2) for k in range(8)]

    def by_name(outputs, answers):
        assert set(outputs) == {"kind", "mask"} and answers.shape[1:] == outputs['mask'].shape[2:]
        return nn.functional.cross_entropy(outputs["mask"], answers.long(), ignore_index=255)

    def listed(outputs, answers):
        assert isinstance(answers, list) and answers[0]["boxes"].shape == (1, 2)
        return (outputs["output"] - torch.cat([one["boxes"] for one in answers])).abs().mean()

    def nan(outputs, answers): return outputs["output"].sum() * float("nan")
    def number(outputs, answers): return 1.0
    def several(outputs, answers): return outputs["output"].mean(0)
    def detached(outputs, answers): return outputs["output"].mean().detach()
    def raising(outputs, answers): return outputs["logits"]
    THREE = 3
"""


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(dedent(NET))
    monkeypatch.chdir(tmp_path)


def tuned(factory: str, data: str, **options: Any) -> Any:
    return finetune(f"net.py:{factory}", data=f"net.py:{data}", out="out.safetensors", **{"epochs": 2, **options})


def test_values_are_learned_in_their_own_units() -> None:
    """A fresh last layer starts at their mean: 2 epochs from 0 would end near 0, at an error of 1000."""
    found = tuned("one", "values", epochs=20)
    assert found.network.task.kind == "regression" and found.network.signature.outputs[0].shape == (1, 1)
    assert found.quality.metric == "mae" and found.quality.value < 300


def test_several_labels() -> None:
    found = tuned("one", "labels", epochs=40, lr=0.05, overrides={"batch": 8})
    assert found.network.task.kind == "multilabel" and found.quality.metric == "f1" and found.quality.value > 0.7
    assert found.network.signature.outputs[0].shape == (1, 3)


def test_masks_in_the_second_of_two_outputs() -> None:
    """Two classes of the network become three, whichever of its layers runs last; pixels of 255 count nowhere."""
    network = resolve("net.py:masks")
    assert [spec.name for spec in network.signature.outputs] == ["kind", "mask"]
    with pytest.raises(DataError, match="has the class 2, the network has classes 0 to 1"):
        tuned("masks", "three")
    assert not Path("out.safetensors").exists()


MEANING = 'task = "segmentation"\nlabels = ["dark", "light"]\nmean = [0.4]\nstd = [0.2]\n'


@pytest.mark.parametrize("verb", [finetune, prune])
def test_a_file_says_what_a_network_takes_and_gives(verb: Any) -> None:
    """Of a factory that says nothing: what the file says is trained with, and stands on the checkpoint."""
    Path("io.toml").write_text(MEANING)
    amount = {"amount": 0.3, "round_to": 1} if verb is prune else {}
    options: dict[str, Any] = {"data": "net.py:pictures", "epochs": 1, "out": "out.safetensors", **amount}
    verb("net.py:unsaid", io_file="io.toml", **options)
    card = resolve("out.safetensors", factory="net.py:unsaid").card
    assert card.task.kind == "segmentation" and card.task.labels == ("dark", "light")
    assert card.contract["image"].mean == (0.4, 0.4, 0.4) and card.contract["image"].std == (0.2, 0.2, 0.2)


@pytest.mark.parametrize("verb", [finetune, prune])
def test_what_does_not_fit_the_network_is_refused_before_it_is_trained(verb: Any) -> None:
    Path("io.toml").write_text(MEANING.replace("mean = [0.4]", "mean = [0.4, 0.5]"))
    amount = {"amount": 0.3} if verb is prune else {}
    options: dict[str, Any] = {"data": "net.py:pictures", "out": "out.safetensors", **amount}
    with pytest.raises(UsageError, match="mean"):
        verb("net.py:unsaid", io_file="io.toml", **options)
    with pytest.raises(UsageError, match="boxes"):
        verb("net.py:unsaid", task="detection", **options)
    assert not Path("out.safetensors").exists()


def test_a_network_with_several_inputs() -> None:
    found = tuned("pair", "places", epochs=40, lr=0.1)
    assert found.network.task.kind == "regression" and found.training.fit.validation_score > -5


def test_a_loss_of_ones_own_gets_every_output_by_name() -> None:
    found = tuned("masks", "pictures", loss="net.py:by_name")
    assert found.quality is not None and found.quality.metric == "miou"
    step = found.network.card.steps[-1]
    assert step.params["loss"] == "net.py:by_name"


def test_answers_of_any_shape_are_listed_for_a_loss_of_ones_own() -> None:
    found = tuned("one", "boxes", loss="net.py:listed")
    assert found.quality is None and Path("out.safetensors").is_file()
    with pytest.raises(DataError, match=r"do not say what one has to learn.*--loss file.py:function"):
        tuned("one", "boxes")


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("nan", "gave nan for the first batch; a loss is a finite number"),
        ("number", "gave a float; a loss gives a tensor of one number"),
        ("several", r"gave a tensor of shape \(2,\); a loss gives a tensor of one number"),
        ("detached", "gave a tensor without a gradient"),
        ("raising", "calling net.py:raising failed at .*KeyError: 'logits'"),
        ("THREE", "is an int; a loss is a function of outputs and answers"),
        ("missing", "net.py has no 'missing'"),
    ],
)
def test_losses_that_are_none(loss: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        tuned("one", "values", loss=f"net.py:{loss}")
    assert not list(Path().glob("*.safetensors"))


def test_a_loss_of_ones_own_while_the_network_learns_its_roundings() -> None:
    found = tuned("masks", "pictures", loss="net.py:by_name", qat=True)
    assert found.network.card.ranges is not None and found.simulated_int8 is not None


def test_the_task_is_that_of_the_network_where_the_data_answer_it() -> None:
    rows = np.zeros((4, 4), np.float32)
    counted = Dataset("d", "all", "array", {"inputs": rows}, labels=np.array([0, 1, 2, 1]), classes=("0", "1", "2"))
    network = resolve("net.py:one")
    assert task_for(network, counted) == "classification"
    values = Dataset("d", "all", "array", {"inputs": rows}, targets=np.zeros((4, 2), np.float32))
    fitted = fitted_to(network, values)
    assert fitted.task.kind == "regression" and fitted.module is network.module
    one = Dataset("d", "all", "array", {"inputs": rows}, labels=np.array([3, 1, 2, 9]), classes=("1", "2", "3", "9"))
    assert task_for(fitted, one) == "regression"  # whole numbers, and the network is said to give values


def test_classes_that_nothing_names_are_numbers() -> None:
    rows = np.zeros((6, 4), np.float32)
    data = Dataset("d", "all", "array", {"inputs": rows}, labels=np.array([0, 1, 0, 1, 1, 0]))
    network = resolve("net.py:one")
    named = fitted_to(network, data)
    assert named.task.labels == ("0", "1") and named.module is network.module
    assert fitted_to(named, data) is named  # and what has names keeps them
    third = Dataset("d", "all", "array", {"inputs": rows}, labels=np.array([0, 1, 2, 1, 1, 0]))
    assert fitted_to(named, third).task.labels == ("0", "1", "2")
    small = {"width": 4, "blocks": (1,)}
    found = train("cnn", data="net.py:photos", epochs=1, builder=small, out="m.safetensors")
    assert found.network.task.labels == ("0", "1")


def test_small_data_are_gone_through_more_often(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset("d", "train", "array", {"inputs": np.zeros((72, 4), np.float32)}, labels=np.arange(72) % 2)
    options = FinetuneOptions(source="x", data="d", out="o.safetensors")
    with caplog.at_level(logging.INFO, "edgekit"):
        settings = settings_for(options, CUSTOM, rows)
    steps = -(-64 // settings.batch) * settings.epochs
    assert steps >= LEAST_STEPS and settings.batch == 8 and "d@train has few samples (64)" in caplog.text
    said = settings_for(FinetuneOptions(source="x", data="d", out="o.safetensors", epochs=3), CUSTOM, rows)
    assert (said.epochs, said.batch) == (3, CUSTOM.batch)
    many = Dataset("d", "train", "array", {"inputs": np.zeros((20_000, 4), np.float32)}, labels=np.arange(20_000) % 2)
    assert settings_for(options, CUSTOM, many) == CUSTOM


def test_another_size_of_the_pictures() -> None:
    changed = at_size(resolve("net.py:masks"), (16, 24))
    assert changed.signature.outputs[1].shape == (1, 2, 16, 24)
    assert changed.card.contract["image"].size == (16, 24)
    with pytest.raises(UsageError, match="--size is of pictures, and one takes"):
        at_size(resolve("net.py:one"), (16, 16))
    pictures = Dataset("d", "all", "image", {"image": np.zeros((2, 8, 8, 3), np.uint8)})
    assert size_for("96", pictures) == (96, 96) and size_for("64x96", pictures) == (64, 96)
    for wrong in ("0", "a", "8x8x8", "64,64", "-8"):
        with pytest.raises(UsageError, match="give pixels, as 224, or height and width"):
            size_for(wrong, pictures)
    with pytest.raises(UsageError, match="leave it out"):
        train("mlp", data="breast-cancer", size="8", out="m.safetensors")


def test_the_size_lands_in_the_file(kept_workers: None) -> None:
    from edgekit.pipeline.export import export

    found = tuned("masks", "pictures", loss="net.py:by_name", size="16x12", epochs=1)
    assert found.network.card.contract["image"].size == (16, 12)
    made = export("out.safetensors", factory="net.py:masks", to="onnx", out=".", name="m")
    card = open_artifact(made.artifacts[0].path).card
    assert card is not None and card.contract["image"].size == (16, 12)
    assert card.signature.outputs[1].shape == (1, 2, 16, 12)


def test_a_segmenter_learns_from_masks_of_ones_own_and_goes_on() -> None:
    made = train("segmenter", data="net.py:pictures", epochs=1, builder={"widths": (8, 8)}, out="s.safetensors")
    assert made.network.task.labels == ("0", "1") and made.quality is not None and made.quality.metric == "miou"
    further = finetune("s.safetensors", data="net.py:pictures", epochs=1, size="16", out="t.safetensors")
    assert further.network.signature.outputs[0].shape == (1, 2, 16, 16)


def test_the_head_of_a_convolution_keeps_what_it_is() -> None:
    from edgekit.pipeline.fitted import replace_head

    network = resolve("net.py:masks")
    network.module.module.head = torch.nn.Conv2d(4, 2, 3, padding=2, dilation=2, bias=False)  # type: ignore[union-attr]
    network.module.module.kind = torch.nn.Identity()  # type: ignore[union-attr]
    assert replace_head(network, 2, 5).endswith("head")
    fresh = network.module.module.head  # type: ignore[union-attr]
    assert (fresh.out_channels, fresh.dilation, fresh.bias) == (5, (2, 2), None)


FORECASTER = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)
        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    def silent():
        return Net(), torch.zeros(1, 8, 2)

    def forecasts():
        return Net(), torch.zeros(1, 8, 2), {"task": "forecasting"}

    def own_units():
        said = {"task": "forecasting", "columns": ["a", "b"], "target": "b", "mean": [0, 7], "std": [1, 3]}
        return Net(), torch.zeros(1, 8, 2), said
"""


@pytest.mark.parametrize(("name", "moments"), [("silent", None), ("forecasts", None), ("own_units", (7.0, 3.0))])
def test_a_forecaster_of_the_users_own(name: str, moments: tuple[float, float] | None, tmp_path: Path) -> None:
    """Its target comes from the data, whether or not it says that it forecasts; its own mean and deviation stay."""
    (tmp_path / "f.py").write_text(dedent(FORECASTER))
    (tmp_path / "s.csv").write_text("a,b\n" + "".join(f"{k % 5},{k * 3 % 7}\n" for k in range(200)))
    data = open_data(f"series:{tmp_path}/s.csv,history=8,horizon=3,target=b@train")
    network = fitted_to(resolve(f"{tmp_path}/f.py:{name}"), data)
    mean, std = moments or (data.params["mean"][1], data.params["std"][1])
    assert network.task.params == {"target": "b", "horizon": 3, "mean": mean, "std": std}
    (rule,) = network.card.contract.values()
    assert (rule.kind, rule.columns, rule.mean[1]) == ("series", ("a", "b"), mean)
