"""``timm:NAME``: a network of the timm package, with its pretrained weights where they are cached or can be fetched."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.errors import RuntimeMissingError, SourceError, UnsupportedError
from edgekit.source.assemble import assemble, seeded
from edgekit.source.base import Source
from edgekit.source.stateload import read_state
from edgekit.source.weights import PRETRAINED, RANDOM, hub, say_random
from edgekit.types import InputSpec, Network, Task

if TYPE_CHECKING:
    import torch


_NAME = re.compile(r"[\w.-]+")


class Timm(Source):
    form: ClassVar[str] = "timm:NAME"
    prefixed: ClassVar[bool] = True
    inert: ClassVar[bool] = True

    def __init__(self, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """``state``: weights that it will get; none are looked for then."""
        self._state = state

    def weighed(self, weights: Path) -> Source:
        return Timm(read_state(weights))

    def resolve(self, text: str) -> Network:
        timm = _package(text)
        module, weights, why = (_sized(timm, text, self._state), "", "") if self._state else _made(timm, text)
        about = timm.data.resolve_data_config({}, model=module)
        config = {"factory": f"timm:{text}", "timm": timm.__version__, "weights": weights}
        if why:
            config["why"] = why
        import torch

        example = torch.zeros(1, *about["input_size"])
        if weights == RANDOM:
            from edgekit.source.randomize import randomize_degenerate_parameters

            with seeded():
                randomize_degenerate_parameters(module, (example,))
        network = assemble(module, (example,), {}, text, config, f"timm:{text}")
        labels = _labels(timm, module) if weights == PRETRAINED else ()
        task = Task("classification", labels, "accuracy") if getattr(module, "num_classes", 0) else Task()
        only = network.signature.inputs[0].name
        return replace(network, card=replace(network.card, contract={only: image_contract(about)}, task=task))

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        with seeded():
            module: torch.nn.Module = _package(text).create_model(text, pretrained=False)
        return module.eval()


def _package(name: str) -> Any:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        if getattr(error, "name", None) != "timm":
            raise UnsupportedError(f"timm:{name}: timm is installed, but cannot be imported: {error}") from error
        raise RuntimeMissingError(
            f"timm:{name} needs the package timm, which is not installed: pip install 'edgekit[timm]'"
        ) from error
    except RuntimeError as error:  # torchvision beside another torch: "operator torchvision::nms does not exist"
        raise UnsupportedError(
            f"timm:{name}: timm is installed, but cannot be imported: {error}; install the torchvision that belongs to "
            "this torch"
        ) from error
    if not _NAME.fullmatch(name) or not timm.is_model(name):  # anything else would be a place on the hub or a folder
        near = get_close_matches(name, timm.list_models(), n=3)
        raise SourceError(f"timm has no model called {name!r}; similar names: {', '.join(near) or 'none'}")
    return timm


def _made(timm: Any, name: str) -> tuple[torch.nn.Module, str, str]:
    """The module, where its weights come from, and why they are random (else empty)."""
    with seeded():
        module: torch.nn.Module = timm.create_model(name, pretrained=False)
    known: Mapping[str, Any] = getattr(module, "pretrained_cfg", {})
    if not any(known.get(key) for key in ("hf_hub_id", "url", "file")):
        why = "timm has none for it"
    else:
        try:
            with hub() as found:
                return timm.create_model(name, pretrained=True), PRETRAINED, ""
        except Exception as error:  # the hub's client, urllib and torch.hub share no base class
            found.missing(f"the weights of timm:{name}")
            why = f"{type(error).__name__}" if found.online else "not cached, and the hub cannot be reached"
    say_random(f"timm:{name}", why)
    return module, RANDOM, why


def _sized(timm: Any, name: str, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The module with as many classes as the last layer of ``state`` has, whatever stands in front of its name."""
    with seeded():
        module: torch.nn.Module = timm.create_model(name, pretrained=False)
        heads = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
        names = [f"{head}.weight" for head in ((heads,) if isinstance(heads, str) else heads)]
        sizes = {len(value) for key, value in state.items() for own in names if key == own or key.endswith(f".{own}")}
        if len(sizes) == 1 and sizes != {getattr(module, "num_classes", 0)}:
            module = timm.create_model(name, pretrained=False, num_classes=sizes.pop())
    return module


def image_contract(about: Mapping[str, Any]) -> InputSpec:
    """timm's data configuration as an input spec: the image is resized to ``size / crop_pct`` and the centre cut out.

    ``crop_mode`` ``center`` resizes the shorter side, ``squash`` both; ``border``, which pads, is taken as a plain
    resize to the size.
    """
    channels, height, width = about["input_size"]
    larger = [math.floor(side / float(about["crop_pct"])) for side in (height, width)]
    params: dict[str, Any] = {"interpolation": str(about["interpolation"])}
    mode = about.get("crop_mode") or "center"
    if mode == "squash" or (mode == "center" and height != width):
        params["resize"] = larger
    elif mode == "center":
        params["shorter"] = larger[0]
    return InputSpec(
        "image", "NCHW", (height, width), channels, 1 / 255, tuple(about["mean"]), tuple(about["std"]), params=params
    )


def _labels(timm: Any, module: Any) -> tuple[str, ...]:
    """Class names in the order of the logits: the configuration's own, else those of the ImageNet set it belongs to."""
    own = module.pretrained_cfg.get("label_names")
    if own:
        return tuple(map(str, own))
    subset = timm.data.infer_imagenet_subset(module)
    if not subset:
        return ()
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(k) for k in range(info.num_classes()))
