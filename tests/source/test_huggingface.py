"""``hf:FOLDER``: models of transformers made from their configurations; named outputs, true messages."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import edgekit
from edgekit.errors import LimitError, RuntimeMissingError, SourceError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.source import origin, resolve

pytestmark = pytest.mark.usefixtures("kept_workers")

transformers = pytest.importorskip("transformers")
Folder = Callable[..., Path]

BERT = {"vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
WHISPER = {
    "vocab_size": 100, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_source_positions": 20,
    "num_mel_bins": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
VIT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with the config.json of one architecture."""

    def made(kind: str, architecture: str | None, numbers: dict[str, Any], **more: Any) -> Path:
        config = getattr(transformers, f"{kind}Config")(**numbers, **more)
        config.architectures = [architecture] if architecture else None
        place = tmp_path / kind.lower()
        config.save_pretrained(place)
        return place

    return made


def shown(specs: Any) -> list[str]:
    return [str(spec) for spec in specs]


def test_a_text_model(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    place = folder("Bert", "BertForSequenceClassification", BERT, num_labels=3)
    with caplog.at_level(logging.WARNING, "edgekit"):
        network = resolve(f"hf:{place}")
    assert "its weights are RANDOM" in caplog.text
    assert network.name == "bert"
    assert shown(network.signature.inputs) == [
        "input_ids: int64[1, 128]", "attention_mask: int64[1, 128]", "token_type_ids: int64[1, 128]",
    ]  # fmt: skip
    assert shown(network.signature.outputs) == ["logits: float32[1, 3]"]
    assert network.task.kind == "classification"
    assert network.card.config["architecture"] == "BertForSequenceClassification"
    assert resolve(f"hf:{place}").card.source_sha256 == network.card.source_sha256


def test_both_formats_with_masks_of_every_kind(folder: Folder, tmp_path: Path) -> None:
    """The proof's cases have sentences without a single token: additive masks give the same there, booleans do not."""
    place = folder("Bert", "BertModel", BERT)
    result = edgekit.export(f"hf:{place}", to=["onnx", "tflite"], out=tmp_path / "out")
    assert result.weights == "random"
    for made in result.artifacts:
        assert {"zeros", "lowest", "highest"} <= {case.kind for case in made.parity.cases}
        assert made.artifact.card is not None
        assert [spec.name for spec in made.artifact.card.signature.outputs] == ["last_hidden_state", "pooler_output"]


def test_an_encoder_decoder_and_its_encoder(folder: Folder) -> None:
    place = folder("Whisper", "WhisperForConditionalGeneration", WHISPER)
    whole = resolve(f"hf:{place}")
    assert shown(whole.signature.inputs) == ["input_features: float32[1, 8, 40]", "decoder_input_ids: int64[1, 16]"]
    assert shown(whole.signature.outputs)[0] == "logits: float32[1, 16, 100]"
    encoder = resolve(f"hf:{place}:encoder")
    assert shown(encoder.signature.inputs) == ["input_features: float32[1, 8, 40]"]
    assert shown(encoder.signature.outputs) == ["last_hidden_state: float32[1, 20, 16]"]


def test_an_image_model_with_its_processor(folder: Folder) -> None:
    place = folder("ViT", "ViTForImageClassification", VIT)
    processor = {
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5], "rescale_factor": 1 / 255, "resample": 3,
        "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True,
    }  # fmt: skip
    (place / "preprocessor_config.json").write_text(json.dumps(processor))
    network = resolve(f"hf:{place}")
    assert shown(network.signature.inputs) == ["pixel_values: float32[1, 3, 32, 32]"]
    rule = network.card.contract["pixel_values"]
    assert (rule.size, rule.mean, rule.std) == ((32, 32), (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
    assert rule.params == {"interpolation": "bicubic", "shorter": 36}


def test_saved_weights_are_read_with_labels_and_tokenizer(folder: Folder) -> None:
    labels = {0: "bad", 1: "good"}
    place = folder("DistilBert", None, {"vocab_size": 60, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32})
    config = transformers.AutoConfig.from_pretrained(place, id2label=labels, label2id={"bad": 0, "good": 1})
    torch.manual_seed(3)
    model = transformers.DistilBertForSequenceClassification(config)
    model.save_pretrained(place)
    facts = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "chat": {"not": "kept"}}
    (place / "tokenizer_config.json").write_text(json.dumps(facts))
    network = resolve(f"hf:{place}")
    assert origin(network.card) == "pretrained"
    assert network.task.labels == ("bad", "good")
    assert network.card.config["tokenizer"] == {
        "tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "pad_token_id": 0, "vocab_size": 60,
    }  # fmt: skip
    own = dict(model.state_dict())
    read = {name.removeprefix("module."): value for name, value in network.module.state_dict().items()}
    assert all(torch.equal(own[name], read[name]) for name in own)


def test_weights_of_the_users_own_for_a_configuration(
    folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is random then, and the names of the classes are those of the configuration."""
    place = folder("Bert", "BertForSequenceClassification", BERT, id2label={0: "bad", 1: "good"})
    torch.manual_seed(4)
    model = transformers.BertForSequenceClassification(transformers.AutoConfig.from_pretrained(place))
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    with caplog.at_level(logging.WARNING, "edgekit"):
        network = resolve(f"hf:{place}", weights=tmp_path / "mine.pt")
    assert "RANDOM" not in caplog.text and origin(network.card) == "pretrained"
    assert network.task.labels == ("bad", "good")
    read = {name.removeprefix("module."): value for name, value in network.module.state_dict().items()}
    assert all(torch.equal(value, read[name]) for name, value in model.state_dict().items())


def test_a_head_that_is_not_in_the_file_is_said(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    place = folder("Bert", None, BERT)
    model = transformers.BertModel(transformers.AutoConfig.from_pretrained(place))
    model.save_pretrained(place)
    document = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**document, "architectures": ["BertForSequenceClassification"]}))
    with caplog.at_level(logging.WARNING, "edgekit"):
        network = resolve(f"hf:{place}")
    assert origin(network.card) == "partly random"
    assert "classifier.bias" in caplog.text


def test_a_name_of_the_hub_from_the_cache(folder: Folder, cached: Callable[[str, dict[str, bytes]], None]) -> None:
    place = folder("ViT", "ViTModel", VIT)
    transformers.ViTModel(transformers.AutoConfig.from_pretrained(place)).save_pretrained(place)
    cached("someone/tiny-vit", {path.name: path.read_bytes() for path in place.iterdir()})
    network = resolve("hf:someone/tiny-vit")
    assert (network.name, origin(network.card)) == ("tiny-vit", "pretrained")


def test_a_checkpoint_of_it_comes_back(folder: Folder, tmp_path: Path) -> None:
    network = resolve(f"hf:{folder('ViT', 'ViTForImageClassification', VIT)}")
    save_checkpoint(network, tmp_path / "mine.safetensors")
    again = resolve(tmp_path / "mine.safetensors")
    mine, its = network.module.state_dict(), again.module.state_dict()
    assert mine.keys() == its.keys()
    assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_what_cannot_be_had_is_said(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="no such model in the cache, and the hub cannot be reached"):
        resolve("hf:someone/nothing")
    with pytest.raises(SourceError, match="no such folder"):
        resolve("hf:./nowhere")
    with pytest.raises(SourceError, match=r"no config\.json"):
        resolve(f"hf:{tmp_path}")
    place = folder("Bert", "BertModel", BERT)
    with pytest.raises(SourceError, match="has no separate encoder"):
        resolve(f"hf:{place}:encoder")
    (place / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(SourceError, match=r"weights are a pickle \(pytorch_model\.bin\)"):
        resolve(f"hf:{place}")
    (place / "model.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(SourceError, match=r"cannot be read|cannot make it"):
        resolve(f"hf:{place}")
    (place / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"config\.json is not valid"):
        resolve(f"hf:{place}")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgekit\[hf\]'"):
        resolve(f"hf:{place}")


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    place = tmp_path / "own"
    place.mkdir()
    marker = tmp_path / "ran"
    (place / "own.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    (place / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}))
    with pytest.raises(SourceError):
        resolve(f"hf:{place}")
    assert not marker.exists()


def test_a_model_that_takes_something_else_asks_for_a_factory(folder: Folder) -> None:
    place = folder("TimeSeriesTransformer", "TimeSeriesTransformerModel", {"prediction_length": 4})
    with pytest.raises(
        SourceError, match=r"takes 'past_values', for which edgekit cannot make an example.*file\.py:factory"
    ):
        resolve(f"hf:{place}")


def test_more_layers_than_are_made(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "num_hidden_layers": 2147483648}')
    with pytest.raises(LimitError, match=r"num_hidden_layers.*EDGEKIT_LIMIT_LAYERS"):
        resolve(f"hf:{tmp_path}")
