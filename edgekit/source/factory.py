"""``file.py:factory`` and ``package.module:factory``: the user's own code makes the network."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.artifact import sha256_file
from edgekit.bench.shapes import Shapes
from edgekit.errors import EdgekitError, SourceError
from edgekit.inputs import require_regular
from edgekit.models import userfile
from edgekit.source.assemble import assemble, seeded
from edgekit.source.base import RETURN, Source
from edgekit.source.sizes import invented, resized
from edgekit.types import Network

if TYPE_CHECKING:
    import torch

log = logging.getLogger("edgekit")
_OWN = (str(Path(__file__).parent), userfile.__file__, "<frozen")


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
        file = Path(place) if place.endswith(".py") else getattr(_import(place), "__file__", None)
        return {} if file is None else {"sha256": sha256_file(file)}


def _from_factory(place: str, attribute: str, shapes: Shapes | None = None) -> Network:
    with seeded():
        module = _import(place)
    spelled = f"{place}:{attribute}"
    found = getattr(module, attribute, None)
    if found is None:
        there = [key for key, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        near = get_close_matches(attribute, there, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SourceError(f"{place} has no {attribute!r}; {hint}it has: {', '.join(there) or 'no function or class'}")
    with seeded():
        made = _call(found, spelled)
    network, inputs = _split(made, spelled, shapes)
    config = {"factory": spelled, **Factory().provenance(spelled)}
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (_tuple(inputs), {})
    return assemble(network, args, kwargs, attribute, config, spelled)


def _tuple(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _import(place: str) -> ModuleType:
    """The module of ``file.py`` or ``package.module``; whatever it raises becomes a SourceError with file and line."""
    if not place.endswith(".py"):
        try:
            if importlib.util.find_spec(place) is None:
                raise ModuleNotFoundError(f"No module named {place!r}", name=place)
            return importlib.import_module(place)
        except KeyboardInterrupt:
            raise
        except ModuleNotFoundError as error:
            if error.name and (place == error.name or place.startswith(f"{error.name}.")):
                raise SourceError(
                    f"no module is called {place!r} (looked in sys.path); for a file write "
                    f"{place.replace('.', '/')}.py:factory"
                ) from error
            raise _told(error, f"importing {place}") from error
        except BaseException as error:
            raise _told(error, f"importing {place}") from error
    path = require_regular(place, SourceError, "a Python file, as file.py:factory").resolve()
    try:
        return userfile.import_file(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _told(error, f"importing {place}") from error


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
    try:
        return found()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _told(error, f"calling {spelled}") from error


def _told(error: BaseException, doing: str) -> EdgekitError:
    """The user's own exception as a SourceError with the file and line that raised it."""
    if isinstance(error, EdgekitError):
        return error
    if isinstance(error, SyntaxError):
        return SourceError(f"{doing}: {error.filename}:{error.lineno}: SyntaxError: {error.msg}")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    where = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else "unknown place"
    own = next((f for f in frames if "site-packages" not in f.filename and "/lib/python" not in f.filename), None)
    if own is not None and own is not frames[-1]:
        last = [f for f in frames if "site-packages" not in f.filename and "/lib/python" not in f.filename][-1]
        where = f"{last.filename}:{last.lineno} in {last.name}"
    text = str(error) or "no message"
    return SourceError(f"{doing} failed at {where}: {type(error).__name__}: {text}; correct it there and try again")


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OWN)


def _split(made: Any, spelled: str, shapes: Shapes | None) -> tuple[torch.nn.Module, Any]:
    """Module and example inputs of what a factory returned, made up of ``shapes`` where it returned none."""
    import torch

    module, inputs = made, None
    if isinstance(made, tuple | list) and len(made) == 2 and isinstance(made[0], torch.nn.Module):
        module, inputs = made
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
    return module, inputs
