"""Example inputs, input spec and task of a transformers model, read off its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import SourceError
from edgekit.source.weights import PRETRAINED
from edgekit.types import InputSpec, Task

if TYPE_CHECKING:
    import torch

LENGTH, DECODER_LENGTH, SAMPLES = 128, 16, 16000
"""Tokens of an example text (fewer where the positions end before), of a decoder's prompt, and samples of a sound."""
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's names of the numbers that preprocessor_config.json has."""


def example_inputs(module: Any, processor: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Inputs by the name of forward's argument: the main one, what goes with it, and a decoder's prompt.

    Raises:
        SourceError: the model takes something that its configuration does not tell.
    """
    takes = inspect.signature(module.forward).parameters
    config = module.config
    main = str(getattr(module, "main_input_name", "input_ids"))
    wanted = [main]
    wanted += [n for n in ("input_ids", "pixel_values") if n != main and n in takes and _two_towers(config)]
    if "input_ids" in wanted:
        wanted += ["attention_mask"]
        wanted += ["token_type_ids"] if getattr(config, "type_vocab_size", 0) > 1 else []
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        wanted += ["decoder_input_ids"]
    made = {}
    for name in takes:
        if name in wanted:
            if name not in _MAKERS:
                raise SourceError(
                    f"{type(module).__name__} takes {name!r}, for which edgekit cannot make an example; write a "
                    "factory that "
                    "returns the model with its example inputs: file.py:factory"
                )
            made[name] = _MAKERS[name](config, processor)
    return made


def _two_towers(config: Any) -> bool:
    return hasattr(config, "text_config") and hasattr(config, "vision_config")


def _part(config: Any, name: str) -> Any:
    return getattr(config, name, config)


def _tokens(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    text = _part(config, "text_config")
    limit = getattr(text, "max_position_embeddings", None) or LENGTH
    if getattr(text, "pad_token_id", None) and limit > LENGTH:
        limit -= text.pad_token_id + 1  # RoBERTa counts positions from the padding token on
    return _indices(int(text.vocab_size), min(LENGTH, int(limit)))


def _indices(vocabulary: int, length: int) -> torch.Tensor:
    """Token numbers over the whole vocabulary, its last one among them: it tells a proof how far they may go."""
    import torch

    found = np.random.default_rng(0).integers(0, vocabulary, (1, length))
    found[0, 0] = vocabulary - 1
    return torch.from_numpy(found)


def _mask(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    return _tokens(config, processor) * 0 + 1


def _types(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    types = _mask(config, processor)
    types[:, : types.shape[1] // 2] = 0  # a pair of sentences
    return types


def _decoder_tokens(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    return _indices(int(_part(config, "decoder").vocab_size), DECODER_LENGTH)


def _pixels(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    import torch

    vision = _part(config, "vision_config")
    size = getattr(vision, "image_size", None) or _size(processor) or 224
    height, width = (size, size) if isinstance(size, int) else size
    return torch.zeros(1, int(getattr(vision, "num_channels", 3)), int(height), int(width))


def _features(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    """Log-mel frames: (1, bands, frames) of a Whisper, whose first layers halve the frames."""
    import torch

    if not hasattr(config, "num_mel_bins") or not hasattr(config, "max_source_positions"):
        raise SourceError(
            f"the size of 'input_features' does not follow from {type(config).__name__}; write a factory that returns "
            "the model with its example inputs: file.py:factory"
        )
    return torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions)


def _values(config: Any, processor: Mapping[str, Any]) -> torch.Tensor:
    """A sound: (1, frames, bands) of a spectrogram transformer, else (1, samples)."""
    import torch

    if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
        return torch.zeros(1, config.max_length, config.num_mel_bins)
    return torch.zeros(1, SAMPLES)


_MAKERS: Mapping[str, Callable[[Any, Mapping[str, Any]], torch.Tensor]] = {
    "input_ids": _tokens,
    "attention_mask": _mask,
    "token_type_ids": _types,
    "decoder_input_ids": _decoder_tokens,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _values,
}


def _size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size of the image a processor gives: its crop, else its size."""
    for key in ("crop_size", "size") if processor.get("do_center_crop", True) else ("size",):
        found = processor.get(key)
        if isinstance(found, int):
            return (found, found)
        if isinstance(found, Mapping) and "height" in found:
            return (int(found["height"]), int(found["width"]))
        if isinstance(found, Mapping) and "shortest_edge" in found:
            return (int(found["shortest_edge"]),) * 2
    return None


def image_contract(inputs: Mapping[str, Any], processor: Mapping[str, Any]) -> dict[str, InputSpec]:
    """The spec of ``pixel_values`` by preprocessor_config.json; empty without either."""
    if "pixel_values" not in inputs or not processor:
        return {}
    _, channels, height, width = inputs["pixel_values"].shape
    scale = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
    normal = processor.get("do_normalize", True)
    mean, std = (tuple(map(float, processor.get(k) or ())) if normal else () for k in ("image_mean", "image_std"))
    params: dict[str, Any] = {}
    if processor.get("resample") in range(len(_RESAMPLE)):
        params["interpolation"] = _RESAMPLE[processor["resample"]]
    size = processor.get("size")
    shorter = size.get("shortest_edge") if isinstance(size, Mapping) else None
    if shorter:
        params["shorter"] = int(shorter)
    elif processor.get("do_center_crop") and isinstance(size, Mapping) and "height" in size:
        params["resize"] = [int(size["height"]), int(size["width"])]
    return {"pixel_values": InputSpec("image", "NCHW", (height, width), channels, scale, mean, std, params=params)}


def classifier(module: Any, weights: str) -> Task:
    """Classification with the configuration's labels, for a model made for it; none where its weights are random."""
    if not type(module).__name__.endswith(("ForSequenceClassification", "ForImageClassification")):
        return Task()
    names = module.config.id2label or {}
    labels = tuple(str(names[key]) for key in sorted(names, key=int))
    generic = all(label == f"LABEL_{k}" for k, label in enumerate(labels))
    return Task("classification", () if generic or weights != PRETRAINED else labels, "accuracy")


def tokenizer_facts(tokenizer: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """What the card keeps of a tokenizer: edgekit does not run it, so a text has to come as token numbers."""
    keys = ("tokenizer_class", "do_lower_case", "model_max_length")
    facts: dict[str, Any] = {key: tokenizer[key] for key in keys if isinstance(tokenizer.get(key), str | int | bool)}
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "vocab_size"):
        value = getattr(config, key, None)
        if tokenizer and isinstance(value, int):
            facts[key] = value
    return facts
