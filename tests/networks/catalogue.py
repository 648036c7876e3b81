"""The networks that scripts/coverage and the tests take through every format: names, sources, dynamic axes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One row: ``source`` as ``edgekit export`` takes it. ``heavy`` ones, of 6 to 70 million parameters
    or as long a graph, are exported by ``scripts/coverage`` and by ``scripts/test -m sweep`` only."""

    name: str
    group: str
    source: str
    dynamic: tuple[str, ...] = ()
    heavy: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}{' ' + self.dynamic[0].split('=')[1] if self.dynamic else ''}".replace(" ", "-")


def _own(name: str, file: str, factory: str, *dynamic: str) -> Entry:
    return Entry(name, "a user's own", f"{HERE / file}:{factory}", dynamic)


OWN = (
    _own("U-Net", "images.py", "unet"),
    _own("U-Net", "images.py", "unet", "image:0=batch"),
    _own("SRGAN upsampler", "images.py", "srgan"),
    _own("SRGAN upsampler", "images.py", "srgan", "image:2=height", "image:3=width"),
    _own("VAE decoder", "images.py", "vae_decoder"),
    _own("VAE decoder", "images.py", "vae_decoder", "latent:0=batch"),
    _own("CRNN", "sequences.py", "crnn"),
    _own("CRNN", "sequences.py", "crnn", "line:3=width"),
    _own("seq2seq GRU", "sequences.py", "seq2seq"),
    _own("seq2seq GRU", "sequences.py", "seq2seq", "tokens:1=words"),
    _own("tagger, packed", "sequences.py", "tagger"),
    _own("tagger, packed", "sequences.py", "tagger", "words:1=length"),
    _own("BERT-tiny, boolean masks", "sequences.py", "bert_with_boolean_masks"),
)
TIMM = tuple(
    Entry(name, "timm", f"timm:{name}", dynamic, heavy=name != "resnet18" or bool(dynamic))
    for name, dynamic in (
        ("resnet18", ()),
        ("resnet18", ("x:0=batch",)),
        ("mobilenetv3_small_100", ()),
        ("efficientnet_lite0", ()),
        ("vit_tiny_patch16_224", ()),
        ("convnext_atto", ()),
    )
)
TRANSFORMERS = tuple(
    Entry(name, "transformers", f"hf:{HERE / 'configs' / folder}", dynamic, heavy=name != "BERT-tiny")
    for name, folder, dynamic in (
        ("BERT-tiny", "bert-tiny", ()),
        ("BERT-tiny", "bert-tiny", ("input_ids:1=words", "attention_mask:1=words", "token_type_ids:1=words")),
        ("DistilBERT", "distilbert", ()),
        ("Whisper-tiny encoder", "whisper-tiny:encoder", ()),
        ("MobileViT-XXS", "mobilevit-xx-small", ()),
    )
)
ZOO = tuple(
    Entry(name, "zoo", name)
    for name in ("mlp", "cnn", "rnn", "lstm", "gru", "transformer", "gan", "autoencoder", "detector")
)
NETWORKS = (*OWN, *TIMM, *TRANSFORMERS, *ZOO)


def recurrent() -> dict[str, dict[str, str]]:
    """Kind of layer -> option -> source, of ``layers.py``."""
    spec = importlib.util.spec_from_file_location("edgekit_networks_layers", HERE / "layers.py")
    assert spec is not None and spec.loader is not None
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)
    found: dict[str, dict[str, str]] = {}
    for kind in layers.KINDS:
        names = {option: f"{kind}_{option}" for option in layers.NAMES if f"{kind}_{option}" in layers.FACTORIES}
        found[kind] = {option: f"{HERE / 'layers.py'}:{name}" for option, name in names.items()}
    return found
