"""``edgekit verify``: files against their source and against each other; a changed weight is found, and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.artifact import read_card, write_card
from edgekit.errors import DataError, ModelError, SourceError, UsageError
from edgekit.pipeline.export import export
from edgekit.pipeline.verify import verify
from edgekit.types import Step

pytestmark = pytest.mark.usefixtures("kept_workers")


def change_onnx(source: Path, target: Path, weight: str) -> Path:
    """The file with one weight multiplied by 1.2, card and all else kept."""
    model = onnx.load(str(source))
    (tensor,) = [t for t in model.graph.initializer if t.name.endswith(weight)]
    values = onnx.numpy_helper.to_array(tensor) * np.float32(1.2)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(target))
    return target


def change_tflite(source: Path, target: Path, owner: str) -> Path:
    """The file with the filter of one convolution multiplied by 1.2, in place."""
    from ai_edge_litert import schema_py_generated as schema

    data = bytearray(source.read_bytes())
    model = schema.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if owner in tensor.Name().decode() and tensor.ShapeLength() == 4 and buffer.DataLength():
            buffer.DataAsNumpy().view(np.float32)[:] *= np.float32(1.2)
            target.write_bytes(data)
            return target
    raise AssertionError(f"no filter of {owner}")


def without_card(source: Path, target: Path) -> Path:
    model = onnx.load(str(source))
    del model.metadata_props[:]
    onnx.save(model, str(target))
    return target


def test_every_format_agrees_with_its_source(files: dict[str, Path], factory: str) -> None:
    for path in files.values():
        result = verify(path, against=factory)
        assert result.passed, result.reason
        assert result.selftest is not None
        kinds = [case["kind"] for case in result.document()["cases"]]
        assert {"random", "zeros", "lowest", "highest", "batch=2", "batch=5", "self-test"} <= set(kinds)
        assert result.document()["first_divergence"] is None


def test_formats_agree_with_each_other(files: dict[str, Path]) -> None:
    assert verify(files["tflite"], against=files["onnx"]).passed
    assert verify(files["onnx"], against=files["pt2"]).passed


def test_a_changed_weight_in_onnx_is_named(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    changed = change_onnx(files["onnx"], tmp_path / "m.onnx", "block.conv.weight")
    result = verify(changed, against=factory)
    assert not result.passed
    assert result.ledger.first_divergence == "block.conv, block.norm (Conv)"
    assert result.selftest is not None
    assert not result.selftest.passed


@pytest.mark.parametrize(("owner", "named"), [("Conv2d_stem;", "stem"), ("Conv2d_skip;", "block.skip")])
def test_a_changed_weight_in_tflite_is_named(
    files: dict[str, Path], factory: str, tmp_path: Path, owner: str, named: str
) -> None:
    changed = change_tflite(files["tflite"], tmp_path / "m.tflite", owner)
    result = verify(changed, against=factory)
    assert result.ledger.first_divergence == f"{named} (CONV_2D)"
    between = verify(changed, against=files["onnx"])
    assert not between.passed
    assert named.rpartition(".")[2] in str(between.ledger.first_divergence)


def test_other_weights_in_the_source_are_named(files: dict[str, Path], factory: str) -> None:
    result = verify(files["onnx"], against=factory.replace(":network", ":changed"))
    assert result.ledger.first_divergence == "block.conv, block.norm (Conv)"
    assert any("has other weights than" in note and "--weights" in note for note in result.notes)
    assert not any("has other weights" in note for note in verify(files["onnx"], against=factory).notes)


def test_a_quantized_file_that_differs_says_that_it_rounds(files: dict[str, Path], tmp_path: Path) -> None:
    small = change_onnx(files["onnx"], tmp_path / "m.onnx", "head.weight")
    card = read_card(small)
    assert card is not None
    write_card(small, card.with_step(Step("quantize", {"scheme": "int8"}, {})))
    result = verify(small, against=files["onnx"])
    assert not result.passed and any("is quantized, and rounds; --tolerance" in note for note in result.notes)


def test_a_tolerance_is_absolute(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    changed = change_onnx(files["onnx"], tmp_path / "m.onnx", "head.weight")
    gap = verify(changed, against=factory).ledger.max_abs
    assert gap is not None
    write_card(changed, replace(read_card(changed), selftest=None))  # type: ignore[type-var]
    assert verify(changed, against=factory, tolerance=2 * gap).passed
    assert not verify(changed, against=factory, tolerance=gap / 2).passed


def test_layouts_are_turned(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    export(factory, to="onnx", out=tmp_path, channels_last=True, name="nhwc")
    for against in (factory, files["onnx"], files["tflite"]):
        result = verify(tmp_path / "nhwc.onnx", against=against)
        assert result.passed, result.reason
        assert "turned" in " ".join(result.notes)
    changed = change_onnx(tmp_path / "nhwc.onnx", tmp_path / "m.onnx", "stem.weight")
    assert verify(changed, against=factory).ledger.first_divergence == "stem (Conv)"


def test_a_file_without_a_card_and_with_other_names(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    bare = without_card(files["onnx"], tmp_path / "bare.onnx")
    model = onnx.load(str(bare))
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    model.graph.input[0].name = "pixels"
    onnx.save(model, str(bare))
    result = verify(bare, against=factory)
    assert result.passed, result.reason
    assert result.selftest is None
    assert result.notes == ("input 'pixels' is compared with 'image', by position",)


def test_models_of_other_networks_are_refused(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        "import torch\n\ndef one():\n    return torch.nn.Linear(3, 4), torch.zeros(1, 3)\n\n"
        "def two():\n    return torch.nn.Bilinear(3, 4, 2), (torch.zeros(1, 3), torch.zeros(1, 4))\n"
    )
    with pytest.raises(UsageError, match="does not fit"):
        verify(files["onnx"], against=f"{other}:one")
    with pytest.raises(UsageError, match=r"has 1 inputs.* has 2"):
        verify(files["onnx"], against=f"{other}:two")


def test_missing_files_and_sources(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        verify(tmp_path / "no.onnx", against=files["onnx"])
    with pytest.raises(ModelError, match="does not exist"):
        verify(files["onnx"], against=tmp_path / "no.tflite")
    with pytest.raises(SourceError, match="no network is called"):
        verify(files["onnx"], against="nothing")


def test_real_samples_take_part(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=np.ones((3, 3, 8, 8), np.float32))
    result = verify(files["onnx"], against=factory, data=f"npz:{tmp_path / 's.npz'}")
    assert [case.kind for case in result.ledger.cases].count("sample") == 3


def test_the_command_ends_with_1_and_its_document(
    edgekit_here: Callable[..., Any], files: dict[str, Path], tmp_path: Path
) -> None:
    changed = change_onnx(files["onnx"], tmp_path / "m.onnx", "head.weight")
    shutil.copy(files["onnx"], tmp_path / "good.onnx")
    done = edgekit_here("verify", changed, "--against", "good.onnx", "--json", "-")
    assert done.code == 1
    assert done.document["passed"] is False
    assert done.document["first_divergence"] == "head (Gemm)"
    assert set(done.document) >= {"passed", "tolerance", "cases", "first_divergence"}
    assert set(done.document["cases"][0]) >= {"kind", "max_abs", "cosine", "passed"}
    assert "head (Gemm)" in done.err
    assert "Traceback" not in done.err
    assert edgekit_here("verify", "good.onnx", "--against", "good.onnx", "-q").code == 0


def test_a_file_of_other_sizes(factory: str, tmp_path: Path) -> None:
    """--shape INPUT= makes the file of that size; its source is verified at the size that the file was exported at."""
    made = export(factory, to="onnx", out=tmp_path, shape=["image=2x3x12x10"]).artifacts[0]
    assert [spec.shape for spec in made.artifact.card.signature.inputs] == [(2, 3, 12, 10)]  # type: ignore[union-attr]
    assert verify(made.artifact.path, against=factory).passed
    with pytest.raises(UsageError, match="does not fit"):
        verify(made.artifact.path, against=factory, shape=["image=2x3x12x11"])


def test_a_free_dimension_is_held_at_the_size_that_is_asked_for(factory: str, tmp_path: Path) -> None:
    dynamic = ["image:0=batch", "image:2=height"]
    made = export(factory, to="onnx", out=tmp_path, dynamic=dynamic, shape=["height=11"]).artifacts[0]
    assert {case.kind for case in made.parity.cases} >= {"example", "height=22", "batch=5"}
    found = verify(made.artifact.path, against=factory, shape=["height=9"])
    kinds = [case.kind for case in found.ledger.cases]
    assert found.passed
    assert "batch=5" in kinds and not any(kind.startswith("height=") for kind in kinds)
    with pytest.raises(UsageError, match="no input or free dimension"):
        verify(made.artifact.path, against=factory, shape=["width=9"])


def test_one_real_sample(files: dict[str, Path], factory: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((1, 3, 8, 8), 0.25, np.float32))
    for found in (
        verify(files["onnx"], against=factory, input=str(tmp_path / "x.npy")).ledger,
        export(factory, to="onnx", out=tmp_path, input=str(tmp_path / "x.npy")).artifacts[0].parity,
    ):
        assert found.passed
        assert [case.kind for case in found.cases].count("sample") == 1
    with pytest.raises(DataError):
        verify(files["onnx"], against=factory, input=str(tmp_path / "none.npy"))
