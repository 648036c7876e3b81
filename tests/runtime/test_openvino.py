"""The runtime ``openvino``, in a worker of its environment, beside onnxruntime and LiteRT on the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.devices import open_runner, open_worker, parse_device, with_runtime
from edgekit.errors import DeviceError, FeedError, ModelError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.extras.cold import optimize
from edgekit.runtime import load, runner_class
from edgekit.runtime.base import Runner
from edgekit.runtime.openvino import VARIANTS, split
from edgekit.runtime.precision import allowance, precision_of

pytestmark = pytest.mark.usefixtures("openvino_python")
X = np.array([[-1.5, 0.25, 2.0, -0.5]], np.float32)


def openvino(path: Path, variant: str = "", **options: Any) -> Runner:
    return open_runner(path, runtime=f"openvino:{variant}" if variant else "openvino", **options)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory, model_files: ModuleType) -> Path:
    """Eight layers of 64 with tanh between: wide enough that fewer bits show."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(64, 64)).astype(np.float32) / 8 for _ in range(8)]
    nodes, name = [], "x"
    for k in range(8):
        nodes.append(helper.make_node("MatMul", [name, f"w{k}"], [f"p{k}"]))
        name = "y" if k == 7 else f"t{k}"
        nodes.append(helper.make_node("Tanh", [f"p{k}"], [name]))
    held = [numpy_helper.from_array(array, f"w{k}") for k, array in enumerate(weights)]
    path = tmp_path_factory.mktemp("layers") / "layers.onnx"
    made: Path = model_files.write_onnx(path, nodes, {"x": ("batch", 64)}, {"y": ("batch", 64)}, held)
    return made


def test_an_onnx_file_with_free_axes(files: ModuleType, tmp_path: Path) -> None:
    """Names of dimensions are the file's; buffers follow the shape; what was handed out is not written again."""
    with openvino(files.concat_onnx(tmp_path / "m.onnx")) as runner:
        assert [str(spec) for spec in runner.signature.inputs] == ["a: float32[batch, 2]", "b: float32[batch, 3]"]
        assert runner.name == "openvino" and runner.version[0].isdigit() and runner.load_ns > 0
        first = None
        for batch in (1, 5, 2, 5):
            a, b = np.full((batch, 2), batch, np.float32), np.full((batch, 3), -batch, np.float32)
            made = runner.run({"a": a, "b": b})["y"]
            assert np.array_equal(made, np.concatenate([a, b], axis=1))
            first = made if first is None else first
        assert first is not None and np.array_equal(first, np.array([[1, 1, -1, -1, -1]], np.float32))
        with pytest.raises(FeedError, match="batch is 2 here and 1 in 'a'"):
            runner.run({"a": np.zeros((1, 2), np.float32), "b": np.zeros((2, 3), np.float32)})


def test_tflite_files_as_litert_runs_them(files: ModuleType, tmp_path: Path) -> None:
    """Names and order of the signature, free axes, quantized inputs and outputs: float32 in and out, or raw."""
    twelve = files.many_outputs_tflite(tmp_path / "twelve.tflite")
    whole = files.conv_int8_tflite(tmp_path / "conv.tflite")
    dense = files.dense_tflite(tmp_path / "dense.tflite", dynamic=True)
    with openvino(twelve) as there, load(twelve) as here:
        assert there.signature == here.signature
        x = {"args_0": np.array([[1, 2]], np.float32)}
        found, wanted = there.run(x), here.run(x)
        assert list(found) == list(wanted) and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    with openvino(dense) as there, load(dense) as here:
        assert there.signature == here.signature
        for batch in (1, 3):
            x = {"x": np.repeat(X, batch, axis=0)}
            assert np.abs(there.run(x)["y"] - here.run(x)["y"]).max() <= 1e-5  # 4 products of at most 22
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    with openvino(whole) as there, load(whole) as here:
        assert there.signature == here.signature
        # one step of 0.25: OpenVINO rounds after the scales, TFLite in fixed point
        assert np.abs(there.run({"image": image})["features"] - files.conv_int8_by_hand(image)).max() <= 0.25
    with openvino(whole, raw=True) as there:
        assert [spec.dtype for spec in (*there.signature.inputs, *there.signature.outputs)] == ["int8", "int8"]
        assert there.run({"image": np.zeros((1, 8, 8, 3), np.int8)})["features"].dtype == np.int8


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE", "INT8", "UINT16", "INT64", "UINT64", "BOOL"])
def test_dtypes(files: ModuleType, tmp_path: Path, kind: str) -> None:
    path = files.identity_onnx(tmp_path / "m.onnx", getattr(TensorProto, kind))
    with openvino(path) as runner:
        dtype = runner.signature.inputs[0].dtype
        given = np.array([[0, 1, 1, 0]], dtype)
        made = runner.run({"x": given})["y"]
        assert made.dtype == given.dtype and np.array_equal(made, given)
        if kind == "INT64":  # which OpenVINO computes in 32 bits: 2**40 would come out as 0
            with pytest.raises(FeedError, match="got integers from 0 to 1099511627776, and OpenVINO computes"):
                runner.run({"x": np.array([[0, 1, 2**40, 0]], np.int64)})


def test_scalars_empty_tensors_and_what_passes_through(files: ModuleType, tmp_path: Path) -> None:
    node = helper.make_node
    scalar = files.write_onnx(tmp_path / "0d.onnx", [node("Neg", ["x"], ["y"])], {"x": ()}, {"y": ()})
    nothing = files.write_onnx(
        tmp_path / "empty.onnx", [node("Concat", ["x", "z"], ["y"], axis=1)], {"x": (1, 0), "z": (1, 4)}, {"y": (1, 4)}
    )
    ends = [numpy_helper.from_array(np.array([0]), name) for name in ("from", "to")]
    sliced = files.write_onnx(
        tmp_path / "none.onnx", [node("Slice", ["x", "from", "to"], ["y"])], {"x": (2, 3)}, {"y": (0, 3)}, ends
    )
    through = files.write_onnx(
        tmp_path / "through.onnx",
        [node("Relu", ["x"], ["y"]), node("Identity", ["x"], ["z"]), node("Identity", ["y"], ["q"])],
        {"x": (1, 4), "unused": (1, 2)},
        {"q": (1, 4), "y": (1, 4), "z": (1, 4)},
    )
    with openvino(scalar) as runner:
        made = runner.run({"x": np.array(2, np.float32)})["y"]
        assert made.shape == () and made == -2
    with openvino(nothing) as runner:
        assert np.array_equal(runner.run({"x": np.zeros((1, 0), np.float32), "z": X})["y"], X)
    with openvino(sliced) as runner:
        assert runner.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (0, 3)
    with openvino(through) as runner:
        found = runner.run({"x": X[:, ::-1], "unused": np.zeros((1, 2), np.float32)})  # not contiguous
        assert list(found) == ["q", "y", "z"]
        assert np.array_equal(found["z"], X[:, ::-1]) and np.array_equal(found["q"], np.maximum(X[:, ::-1], 0))


def test_precision_is_named_and_honoured(layers: Path) -> None:
    """By itself OpenVINO would take bfloat16 where the CPU has it; a name without a precision is float32."""
    x = {"x": np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)}
    with load(layers) as here:
        wanted = here.run(x)["y"]
    off = {}
    for variant in ("", "f32", "auto", "bf16", "f16"):
        try:
            with openvino(layers, variant) as runner:
                assert runner.name == (f"openvino:{variant}" if variant else "openvino")
                ledger = runner.delegation()
                assert ledger is not None and ledger.by == "OpenVINO CPU" and ledger.precisions
                assert ledger.delegated == ledger.nodes == sum(ledger.precisions.values()) > 0 and not ledger.left
                assert (variant in ledger.precisions) == (variant in ("f32", "bf16", "f16"))
                off[variant] = float(np.abs(runner.run(x)["y"] - wanted).max() / np.abs(wanted).max())
        except UnsupportedError as error:
            assert variant in ("bf16", "f16") and f"was to run in {variant}, and" in str(error)
    assert max(off[variant] for variant in ("", "f32", "auto")) < 1e-5  # 64 products in another order, 8 times over
    for variant in off.keys() & {"bf16", "f16"}:
        assert 1e-5 < off[variant] < allowance(precision_of(f"openvino:{variant}"))


def test_names_of_variants() -> None:
    assert runner_class("openvino:gpu:f16") is runner_class("openvino")
    assert {split(variant)[0] for variant in VARIANTS} == {"CPU", "AUTO", "GPU", "NPU"}
    assert split("") == ("CPU", "f32") and split("bf16") == ("CPU", "bf16") and split("npu:f16") == ("NPU", "f16")
    assert precision_of("openvino:auto:f16") == "f16" and precision_of("openvino:f32") == "float32"
    with pytest.raises(UsageError, match=r"no runtime is called 'openvino:npu'; there are: .*openvino:npu:f16"):
        runner_class("openvino:npu")  # which computes in float16 alone


def test_a_device_that_is_missing_is_named(layers: Path) -> None:
    for variant in ("gpu", "npu:f16"):
        try:
            with openvino(layers, variant) as runner:
                assert runner.delegation() is not None  # a machine that has it
        except DeviceError as error:
            place = variant.partition(":")[0].upper()
            assert f"was to run on OpenVINO's {place}, which it does not find here" in str(error)
            assert "there are: CPU" in str(error)
    with pytest.raises(UsageError, match="openvino:gpu runs on an accelerator, which has no threads"):
        openvino(layers, "gpu", threads=2)


def test_threads_are_honoured_or_refused(layers: Path) -> None:
    with openvino(layers, threads=1) as runner:
        assert runner.threads == 1
    with pytest.raises(UnsupportedError, match="4096 threads were asked for, and OpenVINO gives"):
        openvino(layers, threads=4096)


def test_what_it_does_not_take_is_said(files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not have the operators Frobnicate; run it with --runtime onnxruntime"):
        openvino(files.node_onnx(tmp_path / "m.onnx", "Frobnicate"))
    with pytest.raises(ModelError, match=r"does not have the operators Frobnicate; run it with --runtime litert"):
        openvino(files.custom_op_tflite(tmp_path / "m.tflite"))
    for make in (files.recurrent_tflite, files.resource_tflite):
        with pytest.raises(UnsupportedError, match=r"keeps a state in variables.*--runtime litert"):
            openvino(make(tmp_path / "state.tflite"))
    with pytest.raises(UnsupportedError, match=r"'x' has the element type 8; edgekit runs tensors of numbers only"):
        openvino(files.identity_onnx(tmp_path / "text.onnx", TensorProto.STRING))
    with pytest.raises(ModelError, match="outside"):
        openvino(files.external_onnx(tmp_path / "outside.onnx", "../w.bin"))


def test_an_output_without_a_shape(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_onnx(tmp_path / "m.onnx", dynamic=True)
    model = onnx.load(str(path))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, str(path))
    with openvino(path) as runner:
        (output,) = runner.signature.outputs
        assert output.shape == ("y_0", 3)
        assert runner.run({"x": X})["y"].shape == (1, 3)


def test_two_in_one_process_and_staged(files: ModuleType, tmp_path: Path, openvino_python: str) -> None:
    """In the environment itself: the parts of a run, two models side by side, memory that is let go."""
    first, second = files.dense_onnx(tmp_path / "a.onnx"), files.dense_tflite(tmp_path / "b.tflite")
    program = f"""
import sys
import numpy as np
from edgekit.runtime import load
x = {{"x": np.array([[1, 2, 3, 4]], np.float32)}}
with load({str(first)!r}, runtime="openvino") as a, load({str(second)!r}, runtime="openvino") as b:
    one, two = a.run(x)["y"], b.run(x)["y"]
    assert np.array_equal(one, two), (one, two)
    copy_in, run, copy_out = a.staged(x)
    copy_in(); run()
    assert np.array_equal(copy_out()["y"], one)
    call = a.bare(x)
    call(); call()
assert "torch" not in sys.modules and "onnx" not in sys.modules
def held():
    return int(open("/proc/self/statm").read().split()[1])
for _ in range(3):
    load({str(first)!r}, runtime="openvino").close()
before = held()
for _ in range(30):
    with load({str(first)!r}, runtime="openvino") as a:
        a.run(x)
assert held() - before < 30 * 64, held() - before  # pages: less than 256 kB each, where a model takes megabytes
"""
    from edgekit import children

    done = children.run([openvino_python, "-c", program], timeout=120)
    assert done.returncode == 0, done.stderr


def test_it_is_run_where_it_is_and_its_absence_has_the_command(
    files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openvino_python: str
) -> None:
    path = files.dense_onnx(tmp_path / "m.onnx")
    cpu = parse_device("cpu")
    assert with_runtime(cpu, "openvino:bf16").address == openvino_python
    monkeypatch.delenv("EDGEKIT_OPENVINO_PYTHON")
    monkeypatch.setattr("sys.prefix", str(tmp_path / ".venv"))
    with pytest.raises(RuntimeMissingError, match=r"an environment of its own: python3 -m venv .*openvino=="):
        openvino(path)


@pytest.mark.thin
def test_bench_names_precision_and_threads(
    files: ModuleType, tmp_path: Path, edgekit_here: Callable[..., Any], layers: Path
) -> None:
    given = ("bench", layers, "--runtime", "onnxruntime,openvino,openvino:bf16", "--seconds", "0.2", "--json", "-")
    ended = edgekit_here(*given)
    rows = {row["runtime"]: row for row in ended.document["results"]}
    assert rows.keys() == {"onnxruntime", "openvino", "openvino:bf16"}
    assert rows["openvino"]["delegation"]["precisions"].keys() == {"f32"}
    if "error" not in rows["openvino:bf16"]:
        assert rows["openvino:bf16"]["delegation"]["precisions"]["bf16"] > 0
    assert "precisions" not in rows["onnxruntime"]["delegation"]


def test_verify_in_fewer_bits(
    layers: Path, edgekit_here: Callable[..., Any], files: ModuleType, tmp_path: Path
) -> None:
    """bfloat16 is not called broken, what it may be off is said, and a wrong weight is still found."""
    ended = edgekit_here("verify", layers, "--against", layers, "--runtime", "openvino:bf16", "--json", "-")
    if ended.code == 3 and "was to run in bf16" in ended.err:
        pytest.skip("this CPU has no bfloat16")
    assert ended.code == 0, ended.err
    assert ended.document["notes"] == [
        "openvino:bf16 computes in bf16: an output may be off by 6.2% of its largest value"
    ]
    wrong = onnx.load(str(layers))
    array = numpy_helper.to_array(wrong.graph.initializer[3]).copy()
    array[:, 5] *= 3
    wrong.graph.initializer[3].CopyFrom(numpy_helper.from_array(array, wrong.graph.initializer[3].name))
    other = tmp_path / "wrong.onnx"
    onnx.save(wrong, str(other))
    ended = edgekit_here("verify", other, "--against", layers, "--runtime", "openvino:bf16", "--json", "-")
    assert ended.code == 1


def test_what_was_compiled_before_gives_the_same(layers: Path, tmp_path: Path) -> None:
    place, feed = with_runtime(parse_device("cpu"), "openvino", layers), {"x": np.ones((3, 64), np.float32) / 8}
    blob = tmp_path / "compiled"
    with open_worker(place) as client:
        client.load(layers, runtime="openvino")
        wanted = client.run(feed)["y"]
        assert client.measure(optimize, timeout_s=60, target=str(blob)).header == {"apart": True}
        loaded = client.load(layers, runtime="openvino", compiled=str(blob))
        assert np.array_equal(client.run(feed)["y"], wanted)
        assert loaded.delegation is not None and loaded.delegation.nodes > 8
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])
        with pytest.raises(ModelError, match=r"is not what OpenVINO .* compiled of .*; compile it again"):
            client.load(layers, runtime="openvino", compiled=str(blob))


def test_a_runtime_that_opens_what_it_compiled_by_itself_takes_nothing_beside(layers: Path) -> None:
    with pytest.raises(UsageError, match="in the place of the file"):
        load(layers, runtime="onnxruntime", compiled="x")
