"""``edgekit export``: proved, published, quiet."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import edgekit
from edgekit import registry
from edgekit.artifact import read_card, sha256_file
from edgekit.converters.base import Capture, Finish
from edgekit.converters.torch_to_onnx import TorchToOnnx
from edgekit.converters.torch_to_tflite import TorchToTflite
from edgekit.data.seeded import seeded_feed
from edgekit.errors import GateError, InputError, ParityError, SourceError, UnsupportedError, UsageError
from edgekit.leftovers import temporary_name
from edgekit.outputs import output_folder
from edgekit.pipeline.export import ExportResult, export, parse_dynamic
from edgekit.pipeline.proof import SELFTEST_VALUES
from edgekit.types import Format

pytestmark = pytest.mark.usefixtures("kept_workers")


def test_each_file_carries_its_card_its_proof_and_a_self_test(exported: ExportResult) -> None:
    assert [str(item.artifact.format) for item in exported.artifacts] == ["onnx", "tflite", "pt2"]
    for item in exported.artifacts:
        assert item.artifact.path.name == f"network.{item.artifact.format}"
        assert item.parity.passed
        card = read_card(item.artifact.path)
        assert card is not None
        assert [str(spec) for spec in card.signature.inputs] == ["image: float32[batch, 3, 8, 8]"]
        assert [str(spec) for spec in card.signature.outputs] == ["logits: float32[batch, 4]"]
        assert card.steps[-1].name == "export"
        assert card.steps[-1].params["dynamic"] == ["image:0=batch"]
        assert "torch" in card.steps[-1].versions
        assert card.selftest is not None
        with edgekit.load(item.artifact.path) as runner:
            outputs = runner.run(seeded_feed(runner.signature, card.contract, card.selftest.seed))
        promised = card.selftest.outputs["logits"]
        assert 0 < len(promised) <= SELFTEST_VALUES
        got = outputs["logits"].ravel()[: len(promised)]
        assert np.allclose(got, promised, rtol=0, atol=card.selftest.tolerance)


def test_the_document_is_the_contract_s(exported: ExportResult) -> None:
    for item in exported.document()["artifacts"]:
        assert set(item) >= {"path", "format", "bytes", "sha256", "seconds", "parity"}
        assert item["bytes"] == Path(item["path"]).stat().st_size
        assert item["sha256"] == sha256_file(item["path"])
        assert item["parity"]["max_abs"] <= item["parity"]["tolerance"]
        kinds = {case["kind"] for case in item["parity"]["cases"]}
        assert {"random", "example", "zeros", "lowest", "highest", "batch=1", "batch=5"} <= kinds


def test_nothing_else_lies_in_the_folder(exported: ExportResult) -> None:
    folder = exported.artifacts[0].artifact.path.parent
    assert sorted(path.name for path in folder.iterdir()) == ["network.onnx", "network.pt2", "network.tflite"]


def test_no_file_holds_where_torch_or_edgekit_lie(exported: ExportResult, root: Path) -> None:
    """torch notes where each operator was written, which is of no use to whoever gets the file."""
    for item in exported.artifacts:
        content = b"".join(_members(item.artifact.path))
        assert b"block" in content or item.artifact.format is Format.TFLITE  # the search sees module names
        for place in (str(root), str(Path(torch.__file__).parent)):
            assert place.encode() not in content, (item.artifact.format, place)


def _members(path: Path) -> list[bytes]:
    if not zipfile.is_zipfile(path):
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


class Wrong(TorchToOnnx):
    """Writes a file whose second convolution has other weights."""

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        super().convert(capture, target)
        model = onnx.load(str(target))
        for tensor in model.graph.initializer:
            if tensor.name.endswith("block.conv.weight"):
                values = onnx.numpy_helper.to_array(tensor) * np.float32(1.1)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, str(target))
        return ()


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.lookup
    monkeypatch.setattr(
        registry, "lookup", lambda table, name: Wrong if (table, name) == ("converters", "onnx") else real(table, name)
    )


@pytest.mark.usefixtures("wrong")
def test_a_file_that_differs_is_refused_by_layer_and_nothing_is_published(factory: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "network.onnx").write_text("what was there before")
    with pytest.raises(
        ParityError, match=r"First to differ: block\.conv, block\.norm \(Conv\)\. Nothing was published"
    ):
        export(factory, to="onnx", out=out)
    assert [path.name for path in out.iterdir()] == ["network.onnx"]
    assert (out / "network.onnx").read_text() == "what was there before"


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("formats", [["pt2", "onnx"], ["onnx", "pt2"]])
def test_the_proved_file_of_one_format_is_kept_where_another_fails(
    factory: str, tmp_path: Path, formats: list[str]
) -> None:
    said = rf"{tmp_path}/network\.pt2 was proved and published; onnx failed, and no \.onnx file was published: .*"
    with pytest.raises(GateError, match=rf"{said}First to differ: block\.conv, block\.norm \(Conv\)$") as raised:
        export(factory, to=formats, out=tmp_path)
    assert raised.value.exit_code == 1
    assert "Nothing was published" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt2"]
    with edgekit.load(tmp_path / "network.pt2") as runner:
        assert runner.run(seeded_feed(runner.signature, {}, 0))["logits"].shape == (1, 4)


class Failing(TorchToOnnx):
    """A format whose tool fails at once, before the others have begun."""

    def begin(self, capture: Capture, target: Path) -> Finish:
        raise UnsupportedError("no such operator")


def test_a_format_that_cannot_begin_leaves_the_others(
    factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.lookup
    monkeypatch.setattr(
        registry,
        "lookup",
        lambda table, name: Failing if (table, name) == ("converters", "onnx") else real(table, name),
    )
    with pytest.raises(GateError, match=r"onnx failed, and no \.onnx file was published: no such operator"):
        export(factory, to=["onnx", "pt2"], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt2"]
    with pytest.raises(UnsupportedError, match=r"^no such operator$"):
        export(factory, to=["onnx"], out=tmp_path)


def test_a_file_of_another_network_is_replaced_only_when_asked(
    edgekit_here: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net(seed=0):\n    torch.manual_seed(seed)\n    return nn.Linear(4, 2), torch.zeros(1, 4)\n"
        "def other():\n    return net(1)\n"
    )
    asked = ("--to", "onnx", "--name", "m", "-o", "out")
    assert edgekit_here("export", "net.py:net", *asked).code == 0
    before = (tmp_path / "out" / "m.onnx").read_bytes()
    assert edgekit_here("export", "net.py:net", *asked).code == 0  # the same network: its file is made anew
    ended = edgekit_here("export", "net.py:other", *asked)
    assert ended.code == 2
    assert "out/m.onnx was made from other weights, of 'm'" in ended.err and "--overwrite" in ended.err
    assert (tmp_path / "out" / "m.onnx").read_bytes() == before
    assert edgekit_here("export", "net.py:other", *asked, "--overwrite").code == 0
    assert (tmp_path / "out" / "m.onnx").read_bytes() != before
    (tmp_path / "out" / "m.onnx").write_bytes(b"of nobody")
    assert edgekit_here("export", "net.py:net", *asked).code == 0


def test_failing_exports_into_one_new_folder_leave_none(factory: str, tmp_path: Path) -> None:
    """The folder is that of the run that made it, and of those that came while there was nothing else in it."""
    out = tmp_path / "new" / "out"
    with pytest.raises(ValueError, match="first"), output_folder(out):
        (out / temporary_name("export")).mkdir()
        with pytest.raises(ValueError, match="second"), output_folder(out):
            (out / temporary_name("export")).mkdir()
            for stage in out.iterdir():
                if stage != sorted(out.iterdir())[0]:
                    stage.rmdir()
            raise ValueError("second")
        assert out.is_dir()
        for stage in out.iterdir():
            stage.rmdir()
        raise ValueError("first")
    assert not (tmp_path / "new").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(ValueError, match="third"), output_folder(mine):
        raise ValueError("third")
    assert mine.is_dir()  # the user's own, empty as it is
    out.mkdir(parents=True)
    (out / temporary_name("export")).mkdir()  # of another run, which ends first
    with pytest.raises(ValueError, match="late"), output_folder(out):
        next(out.iterdir()).rmdir()
        raise ValueError("late")
    assert not out.exists()


class WrongTflite(TorchToTflite):
    """Writes a file whose head has other weights."""

    def begin(self, capture: Capture, target: Path) -> Finish:
        finish = super().begin(capture, target)

        def broken() -> tuple[str, ...]:
            notes = finish()
            weight = capture.module.get_submodule(f"{capture.prefix}head").weight.detach().numpy()
            content = target.read_bytes()
            assert content.count(weight.tobytes()) == 1, "the weights stand in the file as they are"
            target.write_bytes(content.replace(weight.tobytes(), (weight * np.float32(1.1)).tobytes()))
            return notes

        return broken


def test_the_first_layer_that_differs_is_named_in_tflite_too(
    factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.lookup
    monkeypatch.setattr(
        registry, "lookup", lambda t, name: WrongTflite if (t, name) == ("converters", "tflite") else real(t, name)
    )
    with pytest.raises(ParityError, match=r"First to differ: head \(FULLY_CONNECTED\)\. Nothing was published"):
        export(factory, to="tflite", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("wrong")
def test_a_tolerance_lets_a_small_difference_pass(factory: str, tmp_path: Path) -> None:
    result = export(factory, to="onnx", out=tmp_path, tolerance=100.0)
    assert result.artifacts[0].parity.tolerance == 100.0
    assert (result.artifacts[0].parity.max_abs or 0) > 1e-3  # the files do differ


def test_a_network_that_gives_nan_is_refused(factory: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="the network 'nan' itself gives NaN"):
        export(factory.replace(":network", ":nan"), to="onnx", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_channels_last_is_in_the_card(factory: str, tmp_path: Path) -> None:
    result = export(factory, to="onnx", out=tmp_path, channels_last=True, name="nhwc")
    card = result.artifacts[0].artifact.card
    assert result.artifacts[0].artifact.path.name == "nhwc.onnx"
    assert card is not None
    assert card.signature.inputs[0].shape == (1, 8, 8, 3)


def test_real_samples_take_part(factory: str, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", image=samples)
    result = export(factory, to="onnx", out=tmp_path / "out", data=f"npz:{tmp_path / 'samples.npz'}")
    kinds = [case.kind for case in result.artifacts[0].parity.cases]
    assert kinds.count("sample") == 5


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"to": []}, UsageError, "--to is .* give at least one"),
        ({"to": "gguf"}, UsageError, "no format 'gguf'.*onnx, tflite, pt2"),
        ({"to": "tflite", "opset": 18}, UsageError, "--opset is for ONNX"),
        ({"to": "onnx", "opset": 7}, UnsupportedError, "opset 7 cannot be written; there are 13 to 25"),
        ({"to": "onnx", "dynamic": ["image=batch"]}, UsageError, "INPUT:AXIS=NAME"),
        ({"to": "onnx", "dynamic": ["picture:0=n"]}, UsageError, "names the input 'picture'"),
        ({"to": "onnx", "name": "../up"}, UsageError, "not a plain file name"),
        ({"to": "onnx", "data": "npz:missing.npz"}, InputError, "missing.npz"),
    ],
)
def test_wrong_options_publish_nothing(
    factory: str, tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        export(factory, out=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_named_like_a_file_is_refused_unless_it_is_there(factory: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"give -o {tmp_path} --name mine"):
        export(factory, to="onnx", out=tmp_path / "mine.onnx")
    assert not list(tmp_path.iterdir())
    folder = tmp_path / "mine.onnx"
    folder.mkdir()
    assert export(factory, to="onnx", out=folder).artifacts[0].artifact.path.parent == folder


def test_a_bad_source_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        export("nowhere", to="onnx", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_dynamic_axes_are_parsed() -> None:
    assert parse_dynamic(["a:0=n", "a:2=t", "b.c:1=n"]) == {"a": {0: "n", 2: "t"}, "b.c": {1: "n"}}
    with pytest.raises(UsageError, match="twice"):
        parse_dynamic(["a:0=n", "a:0=m"])


def test_the_command_is_quiet(edgekit_cli: Callable[..., Any], factory: str, tmp_path: Path) -> None:
    """Nothing that torch, litert-torch, jax or transformers print reaches the user."""
    done = edgekit_cli("export", factory, "--to", "onnx", "--to", "tflite", "-o", tmp_path / "out", "--json", "-")
    assert done.code == 0, done.err
    assert done.document["schema"] == "edgekit.export/1"
    assert [item["format"] for item in done.document["artifacts"]] == ["onnx", "tflite"]
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert [line.split(" proved on ")[0] for line in lines] == [
        "converting network to onnx and tflite", "proving network.onnx", "network.onnx", "proving network.tflite",
        "network.tflite",
    ]  # fmt: skip


def test_a_refusal_is_one_line_and_an_exit_code(edgekit_here: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def make():\n    raise ValueError('no luck')\n")
    done = edgekit_here("export", "bad.py:make", "--to", "tflite", "-o", "out")
    assert done.code == 3
    assert done.out == ""
    assert "ValueError: no luck" in done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "out").glob("*"))
