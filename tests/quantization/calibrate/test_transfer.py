"""One calibration for every format: tensors are known again by their numbers, and what is not known is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.data import open_data
from edgekit.data.dataset import stratified
from edgekit.data.preprocess import feeds
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.passes import PassContext
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.fingerprint import Book, fingerprint
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.calibrate.observe_module import ModuleTap, module_calibration
from edgekit.quantization.calibrate.transfer import transfer
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.types import Artifact, Feed, Format, Network, Signature, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")

RNG = np.random.default_rng(0)


def samples(network: Network, count: int = 64) -> list[Feed]:
    chosen = stratified(open_data("digits@train"), count)
    return list(feeds(chosen, network.signature, network.card.contract))


def of_module(network: Network, method: str = "minmax") -> Calibration:
    contract = network.card.contract
    return module_calibration(network.module, network.signature, samples(network), contract=contract, method=method)


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_the_modules_calibration_is_that_of_the_file(
    network: Network,
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    format_: Format,
) -> None:
    artifact, own = files[format_], calibrations[format_]
    given = transfer(of_module(network), artifact)
    assert given.ranges.keys() == own.ranges.keys()
    for name, found in given.ranges.items():
        # Kernels add in another order: float32 rounding, as a share of the tensor's span.
        tolerance = 1e-5 * (own.ranges[name].high - own.ranges[name].low)
        assert found.low == pytest.approx(own.ranges[name].low, abs=tolerance)
        assert found.high == pytest.approx(own.ranges[name].high, abs=tolerance)


def test_both_back_ends_quantize_from_the_module(
    network: Network, files: Mapping[Format, Artifact], tmp_path: Path
) -> None:
    made = of_module(network)
    onnx, tflite = files[Format.ONNX], files[Format.TFLITE]
    QuantizeOnnx("int8", transfer(made, onnx)).run(onnx, PassContext(tmp_path / "q.onnx"))
    QuantizeTflite("int8", transfer(made, tflite)).run(tflite, PassContext(tmp_path / "q.tflite"))
    assert all((tmp_path / f"q.{f}").stat().st_size > 0 for f in ("onnx", "tflite"))


@pytest.mark.parametrize(("source", "target"), [(Format.ONNX, Format.TFLITE), (Format.TFLITE, Format.ONNX)])
def test_from_file_to_file_after_a_save(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    tmp_path: Path,
    source: Format,
    target: Format,
) -> None:
    calibrations[source].save(tmp_path / "one.json")
    loaded = Calibration.load(tmp_path / "one.json")
    artifact, own = files[target], calibrations[target]
    data = samples_of(artifact) if target is Format.ONNX else None  # fused away in the TFLite file: sums before a ReLU
    given = transfer(loaded, artifact, data)
    assert given.ranges.keys() == own.ranges.keys()
    assert all(one.high == pytest.approx(own.ranges[k].high, abs=1e-5 * 50) for k, one in given.ranges.items())
    assert ("calibrated on this file" in " ".join(given.notes)) == (target is Format.ONNX)


def samples_of(artifact: Artifact) -> list[Feed]:
    assert artifact.card is not None
    chosen = stratified(open_data("digits@train"), 64)
    return list(feeds(chosen, artifact.card.signature, artifact.card.contract))


def test_what_is_not_known_again_is_named(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration]
) -> None:
    with pytest.raises(DataError, match=r"no counterpart of .*--data"):
        transfer(calibrations[Format.TFLITE], files[Format.ONNX])


def test_ranges_of_other_weights_are_refused(network: Network, files: Mapping[Format, Artifact]) -> None:
    with torch.no_grad():
        for weight in network.module.parameters():
            weight.mul_(1.2)
    with pytest.raises(DataError, match=r"of \d+ tensors of .* the calibration knows [0-9].*another network"):
        transfer(of_module(network), files[Format.ONNX])


def test_a_calibration_of_another_input_is_refused(files: Mapping[Format, Artifact]) -> None:
    other = module_calibration(nn.Linear(3, 2), SMALL, [{"x": np.ones((1, 3), np.float32)}])
    with pytest.raises(DataError, match="made on another network"):
        transfer(other, files[Format.ONNX])


def test_an_ambiguous_tensor_is_said(network: Network, files: Mapping[Format, Artifact]) -> None:
    made = of_module(network)
    assert made.probes is not None
    twin = {**made.probes.prints, "twin": made.probes.prints["stem.1"]}
    ranges = {**made.ranges, "twin": Range(-100.0, 100.0)}
    doubled = replace(made, ranges=ranges, probes=replace(made.probes, prints=twin))
    with pytest.raises(DataError, match=r"may be stem.1 or .*whose ranges differ"):
        transfer(doubled, files[Format.ONNX])
    same = replace(doubled, ranges={**ranges, "twin": made.ranges["stem.1"]})
    transfer(same, files[Format.ONNX])  # two names of one range harm nobody


def test_learned_ranges_reach_both_files(network: Network, files: Mapping[Format, Artifact]) -> None:
    made = of_module(network).with_ranges({"stem.2": Range(0.0, 1.25)}, method="qat")
    assert made.method == "qat"
    for artifact in files.values():
        given = transfer(made, artifact)
        assert Range(0.0, 1.25) in given.ranges.values()
    with pytest.raises(UsageError, match=r"no tensor 'stem.9'; near names: .*stem"):
        made.with_ranges({"stem.9": Range(0.0, 1.0)}, method="qat")


SMALL = Signature((TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", ("batch", 2)),))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.act = nn.ReLU(inplace=True)
        self.tail = nn.Sequential(nn.Linear(3, 2), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.act(self.first(x)) * 2 + 1)  # type: ignore[no-any-return]


def test_names_are_those_of_the_module() -> None:
    torch.manual_seed(0)
    tap = ModuleTap(Inner(), SMALL)
    seen = tap.run({"x": RNG.normal(size=(4, 3)).astype(np.float32)})
    named = [name for name in seen if "addmm" not in name]
    assert named == ["x", "first", "act", ":mul", ":add", "tail.0"]
    assert tap.aliases == {"tail.1": "tail.0", "tail": "tail.0"}
    assert seen["first"].min() < 0 <= seen["act"].min()  # the values before they were changed in place


def test_a_path_that_depends_on_the_input() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if bool(x.sum() > 0) else x + 1 - 3

    tap = ModuleTap(Branch(), SMALL)
    tap.run({"x": np.ones((1, 3), np.float32)})
    with pytest.raises(ModelError, match="its path depends on the input"):
        tap.run({"x": -np.ones((1, 3), np.float32)})


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_stacked_layers_are_seen(layer: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    stack = layer(3, 5, 2, bidirectional=True, batch_first=True)
    signature = Signature((TensorSpec("x", "float32", (2, 7, 3)),), ())
    x = RNG.normal(size=(2, 7, 3)).astype(np.float32)
    seen = ModuleTap(stack, signature).run({"x": x})
    with torch.no_grad():
        outputs, last = stack(torch.from_numpy(x))
    # The same arithmetic step by step: float32 rounding of sums of some ten terms.
    assert np.allclose(seen[":l1"], outputs.numpy(), atol=1e-6)
    if layer is nn.LSTM:
        assert np.allclose(seen[":l1:cell"][-1], last[1][2].numpy(), atol=1e-6)


def test_a_fingerprint_survives_transposing_and_padding_but_no_change_of_a_value() -> None:
    values = RNG.normal(size=(1, 4, 6, 6)).astype(np.float32)
    book = Book({"x": (fingerprint(values),)})
    padded = np.pad(values.transpose(0, 2, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    assert [c.name for c in book.candidates((fingerprint(padded),))] == ["x"]
    changed = values * np.where(np.arange(4) == 0, 1.05, 1)[None, :, None, None]
    assert book.candidates((fingerprint(changed),)) == []
