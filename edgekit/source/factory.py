"""``file.py:factory`` and ``package.module:factory``: the user's own code makes the network."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.artifact import sha256_file
from edgekit.bench.shapes import Shapes
from edgekit.errors import SourceError, UsageError
from edgekit.iospec import IoSpec, parse_iospec
from edgekit.source.assemble import assemble, seeded
from edgekit.source.base import RETURN, Source
from edgekit.source.sizes import invented, resized
from edgekit.types import Network
from edgekit.usercode import explained, import_place, named

if TYPE_CHECKING:
    import torch

log = logging.getLogger("edgekit")


class Factory(Source):
    form: ClassVar[str] = "file.py:factory, package.module:factory"

    def claims(self, text: str) -> bool:
        path, _, factory = text.rpartition(":")
        return path.endswith(".py") or (bool(path) and not Path(text).exists() and "/" not in factory)

    def resolve(self, text: str) -> Network:
        place, _, factory = text.rpartition(":")
        return _from_factory(place, factory)

    def sized(self, text: str, shapes: Shapes) -> Network:
        place, _, factory = text.rpartition(":")
        return resized(_from_factory(place, factory, shapes), shapes)

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        module = self.resolve(text).module
        if config.get("sha256") and self.provenance(text).get("sha256") != config["sha256"]:
            place = text.rpartition(":")[0]
            log.warning("%s has changed since the checkpoint was made from it; its weights may not fit", place)
        return module

    def provenance(self, text: str) -> dict[str, Any]:
        place = text.rpartition(":")[0]
        file = Path(place) if place.endswith(".py") else getattr(import_place(place), "__file__", None)
        return {} if file is None else {"sha256": sha256_file(file)}


def _from_factory(place: str, attribute: str, shapes: Shapes | None = None) -> Network:
    spelled = f"{place}:{attribute}"
    with seeded():
        made = _call(named(spelled), spelled)
    network, inputs, said = _split(made, spelled, shapes)
    config = {"factory": spelled, **Factory().provenance(spelled)}
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (_tuple(inputs), {})
    made = assemble(network, args, kwargs, attribute, config, spelled)
    try:
        return replace(made, card=said.applied(made.card))
    except UsageError as error:  # no option says it, the source does
        raise SourceError(f"the third value that {spelled} gives: {error}") from error


def _tuple(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _call(found: Any, spelled: str) -> Any:
    import torch

    if isinstance(found, torch.nn.Module):
        return found
    if not callable(found):
        kind = type(found).__name__
        raise SourceError(f"{spelled} is a {kind}; a factory is a function without arguments: {RETURN}")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise SourceError(
            f"{spelled} needs arguments ({error}); a factory is called without any: wrap it in a function"
        ) from error
    except ValueError:
        log.debug("%s has no signature to look at; calling it will tell", spelled)
    with explained(f"calling {spelled}"):
        return found()


def _split(made: Any, spelled: str, shapes: Shapes | None) -> tuple[torch.nn.Module, Any, IoSpec]:
    """Module and example inputs of what a factory returned, made up of ``shapes`` where it returned none, and what it
    says of inputs and outputs."""
    import torch

    module, inputs, said = made, None, IoSpec()
    if isinstance(made, tuple | list) and len(made) in (2, 3) and isinstance(made[0], torch.nn.Module):
        module, inputs = made[:2]
        if len(made) == 3:
            if not isinstance(made[2], Mapping):
                raise SourceError(
                    f"{spelled} gave a {type(made[2]).__name__} as its third value; it is a dict of what inputs and "
                    "outputs mean: {'mean': [0.5], 'std': [0.5], 'labels': [...]}"
                )
            said = parse_iospec(made[2], spelled, _folder(spelled))
    if not isinstance(module, torch.nn.Module):
        shown = f"a {type(made).__name__}" if not isinstance(made, tuple) else f"a tuple of {len(made)}"
        raise SourceError(f"{spelled} gave {shown}, a torch.nn.Module was expected, with its example inputs: {RETURN}")
    if inputs is None:
        inputs = getattr(module, "example_inputs", getattr(module, "example_input_array", None))
    if inputs is None and shapes:
        inputs = invented(module, shapes, spelled)
    if inputs is None:
        arguments = ", ".join(inspect.signature(module.forward).parameters)
        raise SourceError(
            f"{spelled} gave a module without example inputs, so the shapes of forward({arguments}) are unknown; let "
            f"it {RETURN}; or, with export and verify, give --shape NAME=1x3x32x32 for each"
        )
    return module, inputs, said


def _folder(spelled: str) -> Path:
    """Where a labels file of a factory is looked for: beside its file."""
    place = spelled.rpartition(":")[0]
    return Path(place).parent if place.endswith(".py") else Path()
