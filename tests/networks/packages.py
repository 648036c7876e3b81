"""Networks of timm and transformers, made from their configurations: the true sizes, random weights, no download.

Each factory returns the module and its example inputs; edgekit seeds torch with 0 before it calls one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _timm(name: str) -> tuple[nn.Module, Tensor]:
    import timm

    module = timm.create_model(name, pretrained=False)
    return module, torch.randn(1, *timm.data.resolve_data_config({}, model=module)["input_size"])


def resnet18() -> tuple[nn.Module, Tensor]:
    return _timm("resnet18")


def mobilenetv3_small() -> tuple[nn.Module, Tensor]:
    return _timm("mobilenetv3_small_100")


def efficientnet_lite0() -> tuple[nn.Module, Tensor]:
    return _timm("efficientnet_lite0")


def vit_tiny() -> tuple[nn.Module, Tensor]:
    return _timm("vit_tiny_patch16_224")


def convnext_atto() -> tuple[nn.Module, Tensor]:
    return _timm("convnext_atto")


def _sentence(words: int, length: int = 32) -> dict[str, Tensor]:
    """Token numbers and a mask that leaves the last quarter out, as a padded sentence has it."""
    mask = torch.ones(1, length, dtype=torch.int64)
    mask[:, -length // 4 :] = 0
    return {"input_ids": torch.randint(0, words, (1, length)), "attention_mask": mask}


def bert_tiny() -> tuple[nn.Module, dict[str, Tensor]]:
    """google/bert_uncased_L-2_H-128_A-2 (Turc et al., 2019), with a head of two classes."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    return BertForSequenceClassification(config), _sentence(config.vocab_size)


def distilbert() -> tuple[nn.Module, dict[str, Tensor]]:
    """distilbert-base (Sanh et al., 2019): six layers of 768, with a head of two classes."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig()
    return DistilBertForSequenceClassification(config), _sentence(config.vocab_size)


def whisper_tiny_encoder() -> tuple[nn.Module, dict[str, Tensor]]:
    """The encoder of openai/whisper-tiny (Radford et al., 2022): 30 s of 80 mel bands."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, decoder_layers=4
    )
    return WhisperEncoder(config), {"input_features": torch.randn(1, 80, 3000)}


def mobilevit() -> tuple[nn.Module, dict[str, Tensor]]:
    """apple/mobilevit-xx-small (Mehta & Rastegari, 2022), 1,000 classes."""
    from transformers import MobileViTConfig, MobileViTForImageClassification

    config = MobileViTConfig(
        hidden_sizes=[64, 80, 96], neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320], expand_ratio=2.0, num_labels=1000
    )
    return MobileViTForImageClassification(config), {"pixel_values": torch.randn(1, 3, 256, 256)}
