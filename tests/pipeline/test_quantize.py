"""``quantize``: what is published, what the document and the card say, and what is not published."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit.artifact import open_artifact, sha256_file, write_card
from edgekit.data.seeded import seeded_feed
from edgekit.errors import DataError, ModelError, QualityError, UsageError
from edgekit.graph.tflite import read_tflite
from edgekit.pipeline.doctor import TINY_ONNX
from edgekit.pipeline.inspect import inspect
from edgekit.pipeline.quantize import QuantizeResult
from edgekit.pipeline.schemes import quantize
from edgekit.pipeline.verify import replay
from edgekit.quality.integer_selftest import selftest_of
from edgekit.quantization.integer_io import output_steps
from edgekit.quantization.onnx import prepare as onnx_prepare
from edgekit.quantization.tflite import prepare as tflite_prepare
from edgekit.report.bench import bench_report
from edgekit.report.quantize import render_quantize
from edgekit.report.text import show
from edgekit.report.verbs import render_inspect
from edgekit.runtime import load

pytestmark = pytest.mark.usefixtures("kept_workers")

DATA = "breast-cancer"
FORMATS = ("onnx", "tflite")


@pytest.fixture(scope="module")
def int8(mlp: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, QuantizeResult]:
    folder = tmp_path_factory.mktemp("int8")
    return {
        f: quantize(mlp[f], scheme="int8", out=folder / f"q.{f}", data=DATA, samples=100, seconds=0) for f in FORMATS
    }


@pytest.mark.parametrize("format_", FORMATS)
def test_document(mlp: dict[str, Path], int8: dict[str, QuantizeResult], format_: str) -> None:
    document = json.loads(json.dumps(int8[format_].document()))
    made = Path(document["artifact"]["path"])
    assert document["artifact"]["bytes"] == made.stat().st_size < mlp[format_].stat().st_size
    assert document["artifact"]["sha256"] == sha256_file(made)
    quality = document["quality"]
    assert quality["metric"] == "accuracy"
    assert quality["total"] == 113
    assert quality["drop"] == pytest.approx(quality["before"] - quality["after"])
    assert abs(quality["drop"]) <= 2 / 113  # two of the 113 test samples
    account = document["account"]
    assert account["operators"] == account["integer_operators"] > 0
    assert account["left_float"] == []
    assert account["weight_bytes_integer_share"] == 1.0


@pytest.mark.parametrize("format_", FORMATS)
def test_the_comparison_with_the_parent(
    mlp: dict[str, Path], int8: dict[str, QuantizeResult], tmp_path: Path, format_: str
) -> None:
    document = int8[format_].document()
    low, high = document["quality"]["drop_ci95"]
    assert low <= document["quality"]["drop"] <= high
    assert document["account"]["integer_macs_share"] == 1.0
    assert sum(document["inserted"].values()) >= 2  # into integers and back
    assert document["time"] is None  # not asked for
    made = quantize(
        mlp[format_],
        scheme="int8",
        out=tmp_path / f"t.{format_}",
        data=DATA,
        samples=100,
        seconds=0.2,
        allow_slower=True,
    )
    time = made.document()["time"]
    assert time["verdict"] in ("faster", "same", "slower", "inconclusive")
    assert time["device"]["name"] == "cpu"
    assert time["ratio_p50"] > 0
    card = made.artifact.card
    assert card is not None
    assert card.parent is not None
    assert card.parent["sha256"] == sha256_file(mlp[format_])
    assert card.parent == open_artifact(made.artifact.path).card.parent  # type: ignore[union-attr]
    show(render_inspect(edgekit.inspect(made.artifact.path)), told := io.StringIO())
    for part in ("Against its parent", time["verdict"], "inserted:", "of the multiply-accumulates"):
        assert part in told.getvalue()


def test_bench_tells_a_compressed_file_from_its_parent(mlp: dict[str, Path], int8: dict[str, QuantizeResult]) -> None:
    made = int8["onnx"].artifact.path
    result = edgekit.bench([made, mlp["onnx"]], seconds=0.2, workers=1)
    document = result.document()
    (found,) = document["parents"]
    assert (found["a"], found["b"]) == (str(made), str(mlp["onnx"]))
    compressed, plain = document["results"]
    assert compressed["compressed"]["account"]["integer_operators"] > 0
    assert "compressed" not in plain
    show(bench_report(result.record), told := io.StringIO())
    assert "each compressed file against its parent" in told.getvalue()
    assert "operators run on integers" in told.getvalue()


@pytest.mark.parametrize("format_", FORMATS)
def test_card(mlp: dict[str, Path], int8: dict[str, QuantizeResult], format_: str) -> None:
    parent, made = (open_artifact(p).card for p in (mlp[format_], int8[format_].artifact.path))
    assert parent is not None
    assert made is not None
    assert made.steps[:-1] == parent.steps
    assert made.steps[-1].name == "quantize"
    assert made.steps[-1].params["calibration"]["data"] == f"{DATA}@train"
    assert (made.signature, made.contract, made.task) == (parent.signature, parent.contract, parent.task)
    (quality,) = made.quality
    assert quality.data == f"{DATA}@test"
    assert made.account is not None
    assert made.quantized_io == {}


@pytest.mark.parametrize("format_", FORMATS)
def test_selftest_replays_and_can_fail(
    int8: dict[str, QuantizeResult], mlp: dict[str, Path], tmp_path: Path, format_: str
) -> None:
    made = open_artifact(int8[format_].artifact.path)
    assert made.card is not None
    vectors = made.card.selftest
    assert vectors is not None

    def off(path: Path) -> float:
        with load(path) as runner:
            outputs = runner.run(seeded_feed(runner.signature, made.card.contract, vectors.seed))  # type: ignore[union-attr]
        return max(float(np.abs(np.ravel(outputs[n]) - np.array(v)).max()) for n, v in vectors.outputs.items())

    assert off(made.path) <= 1e-6  # the same file on the same machine; written with 7 decimals
    if format_ == "onnx":
        model = onnx.load(str(made.path))
        tensor = next(t for t in model.graph.initializer if t.data_type == 3 and len(t.dims) == 2)
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        onnx.save(model, str(tmp_path / "m.onnx"))
        assert off(tmp_path / "m.onnx") > vectors.tolerance


def test_selftest_tolerance() -> None:
    outputs = {"y": np.array([[-1.0, 4.1]], np.float32)}
    assert selftest_of(outputs, True).tolerance == pytest.approx(3 * 5.1 / 255)
    assert selftest_of(outputs, True, [0.01]).tolerance == pytest.approx(3 * 5.1 / 255)
    assert selftest_of(outputs, True, [0.01, 0.5]).tolerance == pytest.approx(1.5)
    assert selftest_of(outputs, False, [0.5]).tolerance == pytest.approx(4.1e-4)


def test_products_of_4_bits_are_integer_arithmetic(mlp: dict[str, Path], tmp_path: Path) -> None:
    """Their inputs are rounded while running, which other CPUs do elsewhere; with weights in int8 only, nothing is."""
    tolerances = {}
    for scheme in ("int4-weights", "int8-weights"):
        card = quantize(mlp["onnx"], scheme=scheme, out=tmp_path / f"{scheme}.onnx", seconds=0).artifact.card
        assert card is not None and card.selftest is not None
        tolerances[scheme] = card.selftest.tolerance
    assert tolerances["int4-weights"] > 10 * tolerances["int8-weights"]


@pytest.mark.parametrize("integer_io", [False, True])
def test_a_selftest_allows_three_steps_of_the_outputs(mlp: dict[str, Path], tmp_path: Path, integer_io: bool) -> None:
    """Outputs of a .tflite file differ by whole steps, however little of their range one sample fills."""
    made = quantize(
        mlp["tflite"], scheme="int8", out=tmp_path / "q.tflite", data=DATA, integer_io=integer_io, seconds=0
    )
    card = made.artifact.card
    assert card is not None and card.selftest is not None
    (step,) = output_steps(made.artifact)
    (values,) = card.selftest.outputs.values()
    counted = np.array(values) / step
    np.testing.assert_allclose(counted, counted.round(), atol=1e-3)  # vectors are written with 7 decimals
    assert card.selftest.tolerance >= 3 * step * (1 - 1e-6)
    with load(made.artifact.path) as runner:
        passed = replay(runner, made.artifact)
    assert passed is not None and passed.passed

    raw, weights = bytearray(made.artifact.path.read_bytes()), _largest_buffer(made.artifact.path)
    at = raw.index(weights.tobytes())
    raw[at : at + weights.nbytes] = np.where(weights == -128, 127, -weights).astype(np.int8).tobytes()
    (tmp_path / "m.tflite").write_bytes(raw)
    with load(tmp_path / "m.tflite") as runner:
        failed = replay(runner, open_artifact(tmp_path / "m.tflite"))
    assert failed is not None and not failed.passed


def _largest_buffer(path: Path) -> np.ndarray:
    """The weights of the largest layer, as int8."""
    model = read_tflite(path)
    tensors = [t for t in model.subgraphs[0].tensors if t.type == 9 and model.buffers[t.buffer].data is not None]
    return max((np.asarray(model.buffers[t.buffer].data, np.uint8).view(np.int8) for t in tensors), key=len)


@pytest.mark.parametrize("format_", FORMATS)
def test_integer_io(mlp: dict[str, Path], tmp_path: Path, format_: str) -> None:
    made = quantize(mlp[format_], scheme="int8", out=tmp_path / f"q.{format_}", data=DATA, integer_io=True, seconds=0)
    card = made.artifact.card
    assert card is not None
    how = card.quantized_io["table"]
    assert card.signature.inputs[0].dtype == how.dtype == ("uint8" if format_ == "onnx" else "int8")
    assert made.drop is not None
    assert made.drop <= 3 / 113  # runs with real values in and out, as before
    with load(made.artifact.path) as runner:
        assert runner.signature.inputs[0].dtype == "float32"


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-weights", "fp16"])
@pytest.mark.parametrize("format_", FORMATS)
def test_schemes_without_calibration(mlp: dict[str, Path], tmp_path: Path, format_: str, scheme: str) -> None:
    made = quantize(mlp[format_], scheme=scheme, out=tmp_path / f"q.{format_}", seconds=0)
    assert made.document()["quality"] is None
    assert made.artifact.bytes < made.parent.bytes


def test_saved_ranges_give_the_same_file(mlp: dict[str, Path], tmp_path: Path) -> None:
    first = quantize(
        mlp["onnx"],
        scheme="int8",
        out=tmp_path / "a.onnx",
        data=DATA,
        save_calibration=tmp_path / "ranges.json",
        seconds=0,
    )
    second = quantize(
        mlp["onnx"],
        scheme="int8",
        out=tmp_path / "b.onnx",
        data=DATA,
        calibration=str(tmp_path / "ranges.json"),
        seconds=0,
    )
    assert first.artifact.sha256 == second.artifact.sha256


def test_ranges_of_one_format_serve_the_other(mlp: dict[str, Path], tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    quantize(mlp["onnx"], scheme="int8", out=tmp_path / "a.onnx", data=DATA, save_calibration=ranges, seconds=0)
    made = quantize(mlp["tflite"], scheme="int8", out=tmp_path / "a.tflite", calibration=str(ranges), seconds=0)
    own = quantize(mlp["tflite"], scheme="int8", out=tmp_path / "b.tflite", data=DATA, seconds=0)
    assert made.account.integer_operators == own.account.integer_operators > 0
    other = onnx.load(mlp["onnx"])
    for weight in other.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(DataError, match=r"ranges.json: .*another network"):
        quantize(tmp_path / "other.onnx", scheme="int8", out=tmp_path / "c.onnx", calibration=str(ranges), seconds=0)


def test_a_mutated_scale_trips_max_drop(mlp: dict[str, Path], tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    quantize(
        mlp["onnx"],
        scheme="int8",
        out=tmp_path / "a.onnx",
        data=DATA,
        save_calibration=ranges,
        max_drop=0.02,
        seconds=0,
    )
    document = json.loads(ranges.read_text())
    for found in document["ranges"].values():
        found["high"] *= 300
    ranges.write_text(json.dumps(document))
    with pytest.raises(QualityError, match=r"accuracy on breast-cancer@test went from .* --max-drop allows 0\.02"):
        quantize(
            mlp["onnx"],
            scheme="int8",
            out=tmp_path / "b.onnx",
            data=DATA,
            calibration=str(ranges),
            max_drop=0.02,
            seconds=0,
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "ranges.json"]


def test_weights_in_another_file_count_as_the_parents(mlp: dict[str, Path], tmp_path: Path) -> None:
    """The graph alone is smaller than the quantized file, which did not grow."""
    model = tmp_path / "m.onnx"
    onnx.save(onnx.load(str(mlp["onnx"])), str(model), save_as_external_data=True, location="m.bin", size_threshold=0)
    result = quantize(model, scheme="int8-weights", out=tmp_path / "q.onnx", seconds=0)
    document = result.document()
    assert model.stat().st_size < document["artifact"]["bytes"] < document["parent"]["bytes"]
    assert document["parent"]["bytes"] == model.stat().st_size + (tmp_path / "m.bin").stat().st_size
    shown = inspect(model).document()
    assert (shown["bytes"], shown["parts"]) == (document["parent"]["bytes"], ["m.bin"])
    assert shown["sha256"] == document["parent"]["sha256"] != sha256_file(model)


def test_a_file_that_grew_is_not_published(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.onnx"
    tiny.write_bytes(TINY_ONNX)
    with pytest.raises(QualityError, match="it grew"):
        quantize(tiny, scheme="fp16", out=tmp_path / "out.onnx", seconds=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.onnx"]
    assert tiny.read_bytes() == TINY_ONNX


def test_quantized_or_itself(mlp: dict[str, Path], int8: dict[str, QuantizeResult], tmp_path: Path) -> None:
    for format_ in FORMATS:
        with pytest.raises(ModelError, match="quantized already"):
            quantize(int8[format_].artifact.path, scheme="fp16", out=tmp_path / f"q.{format_}", seconds=0)
    with pytest.raises(UsageError, match="the model itself"):
        quantize(mlp["onnx"], scheme="fp16", out=mlp["onnx"], seconds=0)


def without_card(path: Path, target: Path) -> Path:
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(target))
    return target


def arrays(tmp_path: Path, values: Any, labels: Any = None) -> str:
    extra = {} if labels is None else {"labels": np.asarray(labels)}
    np.savez(tmp_path / "d.npz", table=np.asarray(values, np.float32), **extra)
    return f"npz:{tmp_path / 'd.npz'}"


def test_a_file_from_elsewhere_on_bare_arrays(mlp: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = arrays(tmp_path, rng.normal(size=(50, 30)), rng.integers(0, 2, 50))
    model = without_card(mlp["onnx"], tmp_path / "m.onnx")
    made = quantize(
        model, scheme="int8", out=tmp_path / "q.onnx", data=data, allow_slower=True, seconds=0
    )  # hardly smaller
    assert made.artifact.card is not None
    assert made.artifact.card.family == "custom"
    assert made.after is not None
    assert made.after.total == 10


def test_one_sample_is_allowed_and_said(mlp: dict[str, Path], tmp_path: Path) -> None:
    made = quantize(
        mlp["onnx"], scheme="int8", out=tmp_path / "q.onnx", data=arrays(tmp_path, np.ones((1, 30))), seconds=0
    )
    assert any("single sample" in note for note in made.notes)
    assert made.document()["quality"] is None
    assert made.artifact.card is not None
    assert any("single sample" in note for note in made.artifact.card.notes)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((20, 31)), r"\(1, 31\), the model wants \(1, 30\)"),
        (np.full((20, 30), np.nan), "NaN or infinity"),
        (np.zeros((0, 30)), "no samples"),
    ],
)
def test_bad_calibration_data(mlp: dict[str, Path], tmp_path: Path, values: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        quantize(mlp["onnx"], scheme="int8", out=tmp_path / "q.onnx", data=arrays(tmp_path, values), seconds=0)
    assert not (tmp_path / "q.onnx").exists()


def test_a_batch_of_four_is_filled_up(mlp: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(str(mlp["onnx"]))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.metadata_props[:], model.graph.value_info[:]
    onnx.save(model, str(tmp_path / "m.onnx"))
    rng = np.random.default_rng(0)
    data = arrays(tmp_path, rng.normal(size=(50, 30)), rng.integers(0, 2, 50))
    made = quantize(
        tmp_path / "m.onnx", scheme="int8", out=tmp_path / "q.onnx", data=data, samples=30, allow_slower=True, seconds=0
    )
    assert made.after is not None
    assert made.after.total == 10


def test_a_card_from_another_file_is_refused(mlp: dict[str, Path], tmp_path: Path) -> None:
    card = open_artifact(mlp["onnx"]).card
    assert card is not None
    (tmp_path / "tiny.onnx").write_bytes(TINY_ONNX)
    write_card(tmp_path / "tiny.onnx", card)
    with pytest.raises(ModelError):
        quantize(tmp_path / "tiny.onnx", scheme="fp16", out=tmp_path / "q.onnx", seconds=0)


def test_command_line(mlp: dict[str, Path], edgekit_cli: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgekit_cli(
        *("quantize", mlp["tflite"], "--scheme", "int8", "--data", DATA, "--seconds", "0"),
        *("-o", tmp_path / "q.tflite", "--json", "-"),
    )
    assert ended.code == 0, ended.err
    assert ended.document["schema"] == "edgekit.quantize/1"
    assert ended.document["account"]["integer_operators"] > 0
    assert "Created TensorFlow Lite XNNPACK" not in ended.err  # its banner


def test_on_the_screen(mlp: dict[str, Path], int8: dict[str, QuantizeResult], tmp_path: Path) -> None:
    dynamic = quantize(mlp["onnx"], scheme="int8-weights", out=tmp_path / "q.onnx", seconds=0)
    shown = [io.StringIO(), io.StringIO()]
    for result, stream in zip((int8["onnx"], dynamic), shown, strict=True):
        show(render_quantize(result), stream)
    assert "accuracy on breast-cancer@test" in shown[0].getvalue()
    assert "3 of 3 operators run on integers" in shown[0].getvalue()
    assert "turned into float when the file is loaded" in shown[1].getvalue()
    assert "quality was not measured" in shown[1].getvalue()


def test_the_cpu_of_a_device_decides_on_seven_bits(
    mlp: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a row of this table in a hundred clips
    monkeypatch.setattr("edgekit.pipeline.quantize.make.SATURATION_SAMPLES", 400)
    monkeypatch.setattr("edgekit.pipeline.quantize.make.isa_of", lambda device: ("avx2",))
    old = quantize(mlp["onnx"], scheme="int8", out=tmp_path / "old.onnx", data=DATA, seconds=0)
    monkeypatch.setattr("edgekit.pipeline.quantize.make.isa_of", lambda device: ("avx2", "avx_vnni"))
    new = quantize(mlp["onnx"], scheme="int8", out=tmp_path / "new.onnx", data=DATA, seconds=0)
    assert old.step.params["reduce_range"] == ["0.weight", "3.weight"]
    assert new.step.params["reduce_range"] is False
    assert any("as they would clip" in note for note in old.notes) and not any("clip" in note for note in new.notes)


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_the_float_file_is_prepared_once(mlp: dict[str, Path], tmp_path: Path, format_: str) -> None:
    """Calibration, kernels, the pass, mixed precision and the proof work on what was prepared first."""
    prepared = {one.prepared.__code__ for one in (onnx_prepare, tflite_prepare)}
    calls: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in prepared:
            calls.append(frame.f_back.f_code.co_qualname)

    sys.setprofile(note)
    try:
        quantize(mlp[format_], scheme="int8", data=DATA, out=tmp_path / f"q.{format_}", mixed=True, seconds=0)
    finally:
        sys.setprofile(None)
    assert len(calls) == 1, calls
