"""``hf:NAME``: a network of transformers, by its name on the hub or by a folder with a ``config.json``.

``hf:NAME:encoder`` is the encoder of an encoder-decoder alone. Weights are read from safetensors files only, and code
that comes with a model is never run.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.errors import RuntimeMissingError, SourceError
from edgekit.inputs import require_regular_inside
from edgekit.limits import check
from edgekit.source.assemble import assemble, seeded
from edgekit.source.base import Source
from edgekit.source.hfinputs import classifier, example_inputs, image_contract, tokenizer_facts
from edgekit.source.weights import PARTLY, PRETRAINED, RANDOM, Hub, hub, say_random
from edgekit.types import Network

if TYPE_CHECKING:
    import torch

log = logging.getLogger("edgekit")
PART = ":encoder"
SETTINGS = {"use_cache": False, "return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""What a captured network must not do: keep a cache from call to call, or give other outputs than its own."""

ATTENTION = "eager"
"""Masks are added, as large negative numbers. torch's own attention takes booleans, and gives NaN or zeros, each
runtime in its way, where a row is masked altogether (padding on the left)."""


class HuggingFace(Source):
    form: ClassVar[str] = "hf:NAME_OR_FOLDER"
    prefixed: ClassVar[bool] = True
    inert: ClassVar[bool] = True

    def __init__(self, pretrained: bool = True) -> None:
        """``pretrained``: its own weights are looked for; without it, it gets others."""
        self._pretrained = pretrained

    def weighed(self, weights: Path) -> Source:
        return HuggingFace(pretrained=False)

    def resolve(self, text: str) -> Network:
        made = _made(text, pretrained=self._pretrained)
        made = made if self._pretrained else replace(made, weights=PRETRAINED)
        module = made.module.get_encoder() if text.endswith(PART) else made.module
        config = {
            "factory": f"hf:{text}",
            "transformers": importlib.import_module("transformers").__version__,
            "architecture": type(made.module).__name__,
            "weights": made.weights,
        }
        if made.why:
            config["why"] = made.why
        if made.tokenizer:
            config["tokenizer"] = made.tokenizer
        with _told(text):
            inputs = example_inputs(module, made.processor)
            if made.weights == RANDOM:
                from edgekit.source.randomize import randomize_degenerate_parameters

                with seeded():
                    randomize_degenerate_parameters(module, (), inputs)
        own = text.removesuffix(PART)
        name = Path(own).name or "network"
        network = assemble(module, (), inputs, name, config, f"hf:{text}")
        contract = image_contract(inputs, made.processor)
        task = classifier(made.module, made.weights) if module is made.module else network.card.task
        return replace(network, card=replace(network.card, contract=contract, task=task))

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        from edgekit.adapter import adapt

        made = _made(text, pretrained=False)
        module = made.module.get_encoder() if text.endswith(PART) else made.module
        return adapt(module, (), example_inputs(module, made.processor))[0]


@dataclass(frozen=True, slots=True)
class _Built:
    """A model; ``why`` says why its weights are not all pretrained; ``processor`` is its preprocessor_config.json."""

    module: Any
    weights: str
    why: str
    processor: Mapping[str, Any]
    tokenizer: Mapping[str, Any]


def _made(text: str, *, pretrained: bool) -> _Built:
    name = text.removesuffix(PART)
    transformers = _package(text)
    with hub() as access, _quiet(), _told(text):
        config = _config(transformers, name, access)
        _check_layers(config.to_dict(), f"hf:{name}")
        for key, value in SETTINGS.items():
            setattr(config, key, value)
        kind = _class(transformers, config)
        with seeded():
            module, weights, why = _weights(kind, name, config, access) if pretrained else (kind(config), RANDOM, "")
        processor, tokenizer = _json(name, "preprocessor_config.json"), _json(name, "tokenizer_config.json")
    if text.endswith(PART) and not config.is_encoder_decoder:
        raise SourceError(f"hf:{text}: {type(module).__name__} has no separate encoder; write hf:{name}")
    if pretrained and weights == RANDOM:
        say_random(f"hf:{text}", why)
    elif weights == PARTLY:
        log.warning(
            "hf:%s: PART of its weights are random (%s); finetune it before its answers mean anything", text, why
        )
    return _Built(module.eval(), weights, why, processor, tokenizer_facts(tokenizer, config))


def _package(text: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise RuntimeMissingError(
            f"hf:{text} needs the package transformers, which is not installed: pip install 'edgekit[hf]'"
        ) from error


def _config(transformers: Any, name: str, access: Hub) -> Any:
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise SourceError(f"hf:{name}: the folder has no config.json, so it holds no model of transformers")
        require_regular_inside(folder, SourceError)
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise SourceError(f"hf:{name}: there is no such folder, and it is not a name of the hub (OWNER/MODEL)")
    try:
        return transformers.AutoConfig.from_pretrained(
            name, trust_remote_code=False, local_files_only=not access.online, attn_implementation=ATTENTION
        )
    except (OSError, ValueError, KeyError) as error:
        if folder.is_dir():
            raise SourceError(f"hf:{name}: its config.json is not valid: {_line(error)}") from error
        access.missing(f"hf:{name}")
        where = "on the hub" if access.online else "in the cache, and the hub cannot be reached"
        raise SourceError(
            f"hf:{name}: no such model {where}: {_line(error)}; a folder with its config.json will do: hf:FOLDER"
        ) from error


def _check_layers(config: Mapping[str, Any], subject: str) -> None:
    """Raises LimitError where a configuration, or one within it, asks for more layers than are made."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_layers(value, subject)
        elif isinstance(value, int) and ("layer" in key or key == "depth"):
            check("LAYERS", value, f"{subject}: {key}")


def _class(transformers: Any, config: Any) -> Any:
    """The class the configuration names, else the bare model of its type."""
    for name in config.architectures or ():
        found = getattr(transformers, str(name), None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    try:
        return transformers.AutoModel._model_mapping[type(config)]
    except KeyError as error:
        raise SourceError(
            f"transformers has no model for {type(config).__name__} (architectures: {config.architectures}); write a "
            "factory that makes it: file.py:factory"
        ) from error


def _weights(kind: Any, name: str, config: Any, access: Hub) -> tuple[Any, str, str]:
    folder = Path(name)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt")))
        if pickles:
            raise SourceError(
                f"hf:{name}: its weights are a pickle ({pickles[0]}), which can run any code when opened; write them "
                "as safetensors where you trust them: model.save_pretrained(folder)"
            )
        return kind(config), RANDOM, "the folder has no .safetensors file"
    try:
        module, info = kind.from_pretrained(
            name, config=config, use_safetensors=True, output_loading_info=True, local_files_only=not access.online,
            trust_remote_code=False, dtype="float32",
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        if folder.is_dir():
            raise SourceError(f"hf:{name}: its weights cannot be read: {_line(error)}") from error
        access.missing(f"the weights of hf:{name}")
        why = _line(error) if access.online else "not cached, and the hub cannot be reached"
        return kind(config), RANDOM, why
    missing = sorted(info["missing_keys"])
    if missing:
        return module, PARTLY, f"{len(missing)} tensors are not in the file, the first is {missing[0]}"
    return module, PRETRAINED, ""


def _json(name: str, file: str) -> dict[str, Any]:
    """A JSON file of the model; empty where it has none."""
    import json

    from transformers.utils import cached_file

    lenient = ("missing_entries", "connection_errors", "gated_repo")
    place = cached_file(name, file, **{f"_raise_exceptions_for_{what}": False for what in lenient})
    if place is None:
        return {}
    try:
        found = json.loads(Path(place).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"hf:{name}: {file} is not valid JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def _told(text: str) -> Iterator[None]:
    """Whatever transformers raises, as one SourceError."""
    from edgekit.errors import EdgekitError

    try:
        yield
    except EdgekitError:
        raise
    except Exception as error:
        raise SourceError(
            f"hf:{text}: transformers cannot make it: {type(error).__name__}: {_line(error)}; write a factory that "
            "does: file.py:factory"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars and advice of transformers off the terminal; what matters is said by edgekit."""
    loggers = [logging.getLogger(name) for name in ("torch", "torchao", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    from transformers.utils import logging as theirs

    bars = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            theirs.enable_progress_bar()
