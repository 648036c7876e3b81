"""``finetune --qat``, ``export``, ``quantize``: the learnt ranges arrive, and the simulation is what the files do."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.artifact import open_artifact, write_card
from edgekit.cli import main
from edgekit.data import open_data
from edgekit.data.preprocess import feeds
from edgekit.errors import DataError, GateError, QualityError, UnsupportedError, UsageError
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.pipeline.export import export
from edgekit.pipeline.finetune import finetune, finetune_options
from edgekit.pipeline.quantization_aware import with_learned_ranges, with_roundings
from edgekit.pipeline.quantize import QuantizeResult
from edgekit.pipeline.schemes import quantize
from edgekit.pipeline.train import TrainResult, train
from edgekit.quantization.qat.module import FakeQuantized
from edgekit.runtime import load
from edgekit.types import Artifact, Format, Network

pytestmark = pytest.mark.usefixtures("kept_workers")

BOTH = pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qat") / "float.safetensors"
    train("cnn", data="digits", epochs=6, out=path, builder={"width": 8, "blocks": (1, 1)})
    return path


@pytest.fixture(scope="module")
def learned(parent: Path) -> TrainResult:
    return finetune(parent, data="digits", epochs=3, qat=True, out=parent.with_name("qat.safetensors"))


@pytest.fixture(scope="module")
def files(learned: TrainResult) -> Mapping[Format, Artifact]:
    made = export(learned.path, to=["onnx", "tflite"], out=learned.path.parent, name="qat")
    return {row.artifact.format: open_artifact(row.artifact.path) for row in made.artifacts}


@pytest.fixture(scope="module")
def quantized(files: Mapping[Format, Artifact]) -> Mapping[Format, QuantizeResult]:
    """int8 files by the learnt ranges alone: no data is given."""
    return {
        format_: quantize(one.path, scheme="int8", out=one.path.with_name(f"int8.{format_}"), seconds=0)
        for format_, one in files.items()
    }


@dataclass(frozen=True)
class Rounded:
    """A network that was not trained with its roundings, so that they cost something; and its files, which carry the
    ranges that it starts from."""

    network: Network
    module: FakeQuantized
    files: Mapping[Format, Path]


@pytest.fixture(scope="module")
def untrained(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Rounded:
    network, data = load_checkpoint(parent), open_data("digits@train")
    taught = with_roundings(network, data, replace(finetune_options(network), qat=True))
    assert isinstance(taught.module, FakeQuantized)
    folder = tmp_path_factory.mktemp("untrained")
    save_checkpoint(replace(network, card=with_learned_ranges(taught, network.card, data)), folder / "m.safetensors")
    made = export(folder / "m.safetensors", to=["onnx", "tflite"], out=folder, name="m")
    files = {row.artifact.format: row.artifact.path for row in made.artifacts}
    return Rounded(load_checkpoint(parent), taught.module.eval(), files)


def test_the_checkpoint_is_a_plain_float_one(parent: Path, learned: TrainResult) -> None:
    before, after = load_checkpoint(parent), load_checkpoint(learned.path)
    assert list(before.module.state_dict()) == list(after.module.state_dict())
    assert after.card.steps[-1].params["qat"] is True
    assert after.card.steps[-1].params["precision"] == "32-true"
    norms = [name for name in before.module.state_dict() if "running_" in name]
    assert norms and all(torch.equal(before.module.state_dict()[n], after.module.state_dict()[n]) for n in norms)
    document = learned.document()
    assert document["simulated_int8"]["value"] > 0.5 < document["quality"]["value"]
    json.dumps(document, allow_nan=False)


@BOTH
def test_the_ranges_arrive_in_the_int8_file(
    files: Mapping[Format, Artifact], quantized: Mapping[Format, QuantizeResult], learned: TrainResult, format_: Format
) -> None:
    ranges = learned.network.card.ranges
    card = files[format_].card
    assert ranges is not None and card is not None and card.ranges is not None
    assert card.ranges["method"] == "qat" and card.ranges["missing"] == []
    assert any("quantization-aware" in note for note in card.notes)
    result = quantized[format_]
    assert result.step.params["calibration"] == {"method": "qat", "data": "digits@train", "samples": 300}
    assert any("quantization-aware" in note for note in result.notes)
    assert result.artifact.card is not None and result.artifact.card.ranges is None  # they are the file's scales now
    found = {round(row["high"] - row["low"], 4) for row in ranges["ranges"].values()}
    scales = np.array(_scales(result.artifact)) * 255
    near = [min(abs(scale - one) for one in found) < 1e-3 * scale for scale in scales]
    assert len(near) >= 8 and all(near)


def _scales(artifact: Artifact) -> list[float]:
    """Scales of the activations of an int8 file."""
    if artifact.format is Format.ONNX:
        import onnx

        model = onnx.load(str(artifact.path))
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        names = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        return [float(constants[name]) for name in names]
    from edgekit.graph.tflite import holds_data, read_tflite

    read = read_tflite(artifact.path)
    return [
        float(t.quantization.scale[0])
        for t in read.subgraphs[0].tensors
        if t.quantization is not None
        and t.quantization.scale is not None
        and len(t.quantization.scale) == 1
        and not holds_data(read, t)
    ]


@BOTH
def test_the_simulation_is_what_the_file_computes(untrained: Rounded, tmp_path: Path, format_: Format) -> None:
    network, module = untrained.network, copy.deepcopy(untrained.module)
    # for arm: what stays in float on this machine follows from times, which are not what is looked at
    options = {"scheme": "int8", "for_": "arm", "seconds": 0}
    result = quantize(untrained.files[format_], out=tmp_path / f"int8.{format_}", **options)
    apart, lost, agree = [], [], []
    with load(result.artifact.path) as runner:
        for feed in feeds(open_data("digits@test"), network.signature, network.card.contract, limit=100):
            ((name, given),) = feed.items()
            mine = given.transpose(0, 2, 3, 1) if format_ is Format.TFLITE else given  # channels-last
            (file,) = runner.run({name: np.ascontiguousarray(mine)}).values()
            with torch.no_grad():
                rounded, plain = (
                    module(torch.from_numpy(given)).numpy(),
                    network.module(torch.from_numpy(given)).numpy(),
                )
            apart.append(np.abs(rounded - file).mean())
            lost.append(np.abs(plain - file).mean())
            agree.append(rounded.flat[file.argmax()] == rounded.max())  # several may be rounded to the largest
    # Not zero: where a value lies between two levels the file's sum, in another order, may round to the other one. The
    # ONNX file gives its logits without rounding them, the simulation rounds them as TFLite does.
    assert np.mean(apart) < {Format.TFLITE: 0.35, Format.ONNX: 0.75}[format_] * np.mean(lost)
    assert np.mean(agree) >= 0.98
    module.ranges[2] *= 0.4  # a wrong range is no longer what the file does
    with torch.no_grad():
        wrong = float(np.abs(module(torch.from_numpy(given)).numpy() - file).mean())
    assert wrong > 3 * np.mean(apart)


def test_another_calibration_is_had_for_the_asking(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    format_ = Format.ONNX
    with pytest.raises(UsageError, match="give --data"):
        quantize(files[format_].path, scheme="int8", calibration="minmax", out=tmp_path / f"m.{format_}", seconds=0)
    result = quantize(
        files[format_].path,
        scheme="int8",
        calibration="minmax",
        data="digits",
        out=tmp_path / f"m.{format_}",
        seconds=0,
    )
    assert result.step.params["calibration"]["method"] == "minmax"
    assert not any("quantization-aware" in note for note in result.notes)


def test_ranges_stay_with_their_weights(learned: TrainResult, tmp_path: Path) -> None:
    network = load_checkpoint(learned.path)
    with torch.no_grad():
        next(network.module.parameters()).mul_(1.01)
    save_checkpoint(network, tmp_path / "changed.safetensors")
    assert load_checkpoint(tmp_path / "changed.safetensors").card.ranges is None
    again = finetune(learned.path, data="digits", epochs=1, out=tmp_path / "float.safetensors")
    assert again.network.card.ranges is None


def test_a_killed_run_ends_with_the_same_bits(parent: Path, tmp_path: Path) -> None:
    def stop(epoch: int, *rest: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    whole = finetune(parent, data="digits", epochs=3, qat=True, out=tmp_path / "whole.safetensors")
    out = tmp_path / "stopped.safetensors"
    with pytest.raises(KeyboardInterrupt):
        finetune(parent, data="digits", epochs=3, qat=True, out=out, progress=stop)
    assert [path.name for path in tmp_path.glob("stopped*")] == ["stopped.resume.safetensors"]
    stopped = finetune(parent, data="digits", epochs=3, qat=True, out=out)
    assert stopped.training.fit.epochs_run == 1
    assert (tmp_path / "stopped.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert whole.network.card.ranges == stopped.network.card.ranges


def test_it_learns_from_a_teacher(parent: Path, tmp_path: Path) -> None:
    result = finetune(
        parent, data="digits", epochs=1, qat=True, distil_from=parent, out=tmp_path / "taught.safetensors"
    )
    assert result.network.card.ranges is not None
    assert result.network.card.steps[-1].params["distil_from"] == parent.name


def test_a_diverging_run_writes_nothing(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="diverged"):
        finetune(parent, data="digits", epochs=2, qat=True, out=tmp_path / "m.safetensors", overrides={"lr": 1e30})
    assert not (tmp_path / "m.safetensors").exists()


def test_a_mutated_range_is_refused_or_seen(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    source = files[Format.ONNX]
    card = source.card
    assert card is not None and card.ranges is not None
    names = list(card.ranges["ranges"])

    def mutated(change: Mapping[str, float]) -> Path:
        path = tmp_path / "mutated.onnx"
        path.write_bytes(source.path.read_bytes())
        ranges = {**card.ranges["ranges"], **dict.fromkeys(names[1:6], change)}  # type: ignore[index,union-attr]
        write_card(path, replace(card, ranges={**card.ranges, "ranges": ranges}))  # type: ignore[dict-item]
        return path

    with pytest.raises(DataError, match="must be finite"):
        quantize(mutated({"low": 1.0, "high": 2.0}), scheme="int8", out=tmp_path / "q.onnx", seconds=0)
    small = mutated({"low": 0.0, "high": 0.01})
    with pytest.raises(QualityError, match="--max-drop allows"):
        quantize(small, scheme="int8", data="digits", max_drop=0.05, out=tmp_path / "q.onnx", seconds=0)
    assert not (tmp_path / "q.onnx").exists()


def test_tensors_without_a_range_need_data(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    source = files[Format.TFLITE]
    assert source.card is not None and source.card.ranges is not None
    ranges = dict(source.card.ranges["ranges"])
    gone = list(ranges)[3]
    del ranges[gone]
    path = tmp_path / "m.tflite"
    path.write_bytes(source.path.read_bytes())
    write_card(path, replace(source.card, ranges={**source.card.ranges, "ranges": ranges, "missing": [gone]}))
    with pytest.raises(DataError, match="none for 1 of its tensors"):
        quantize(path, scheme="int8", out=tmp_path / "q.tflite", seconds=0)
    result = quantize(path, scheme="int8", data="digits", out=tmp_path / "q.tflite", seconds=0)
    assert any("1 ranges that were not learnt" in note for note in result.notes)


def test_a_quantized_network_is_refused(parent: Path) -> None:
    network = load_checkpoint(parent)
    network.module.head = torch.ao.nn.quantized.Linear(16, 10)
    with pytest.raises(UnsupportedError, match="quantized already"):
        with_roundings(network, open_data("digits@train"), replace(finetune_options(network), qat=True))


NOTHING = """
import torch
from torch import nn

class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, image):
        return image.flatten(1)[:, :10] * self.scale

def network():
    return Scale(), torch.randn(1, 1, 8, 8)
"""


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    return int(leaving.value.code or 0)


def test_the_command(parent: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(NOTHING)
    out = str(tmp_path / "m.safetensors")
    assert command("finetune", f"{tmp_path}/net.py:network", "--data", "digits", "--qat", "-o", out) == 3
    assert "nothing to learn with --qat" in capfd.readouterr().err
    asked = ("finetune", str(parent), "--data", "digits", "--qat", "--epochs", "1", "-o", out)
    assert command(*asked, "--lr", "1e30") == 1
    assert "diverged" in capfd.readouterr().err
    assert not Path(out).exists()
    assert command(*asked) == 0
    shown = capfd.readouterr()
    assert "simulated int8" in shown.out and "batch norms folded" in shown.err
