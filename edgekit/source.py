"""What the user typed -> a Network: zoo name, checkpoint, ``file.py:factory``, ``pkg.mod:factory``, ``.pt2`` file.

Nothing is unpickled. Code runs only where the user names it (a factory).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgekit import registry
from edgekit.artifact import read_card, sha256_file
from edgekit.errors import EdgekitError, InputError, SourceError, UnsupportedError
from edgekit.types import Card, Dim, InputContract, Network, Signature, Task, TensorSpec

if TYPE_CHECKING:
    import torch

log = logging.getLogger("edgekit")
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
_MODEL_FILES = (".onnx", ".tflite")
_FORMS = "a zoo name, file.py:factory, package.module:factory, a .safetensors checkpoint, a .pt2 file, timm:NAME"
_RETURN = "return module, torch.zeros(1, 3, 32, 32)    # or a tuple of tensors, or a dict by argument name"


def resolve(text: str | Path, *, name: str | None = None) -> Network:
    """The network the user named, in eval mode, with example inputs and its card.

    Args:
        text: one of the spellings above.
        name: what to call it instead of its own name.

    Raises:
        SourceError: it cannot be had; the message says what there is, or the user's file, line and exception.
        ModelError: a checkpoint or .pt2 file is damaged.
        UnsupportedError: a spelling that edgekit knows but cannot serve here.
    """
    network = _resolve(str(text))
    return network if name is None else replace(network, card=replace(network.card, name=name))


def _resolve(text: str) -> Network:
    kind, colon, rest = text.partition(":")
    families = registry.names("families")
    if text in families:
        return _zoo(text)
    if text.partition("-")[0] in families and (further := _further(text)) is not None:
        return further
    if colon and kind == "timm":
        return _timm(rest)
    if colon and kind == "hf":
        raise UnsupportedError(
            f"hf: is not built yet ({text}); write a factory that makes the model with transformers and returns it "
            f"with example inputs, and name it as file.py:factory: {_RETURN}"
        )
    path, _, factory = text.rpartition(":")
    if path.endswith(".py") or (path and not Path(text).exists() and "/" not in factory):
        return _from_factory(path, factory)
    return _from_path(text)


def _from_path(text: str) -> Network:
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from edgekit.models.checkpoint import load_checkpoint

        return load_checkpoint(path, _rebuild)
    if suffix == ".pt2":
        return _from_program(path)
    if suffix in _PICKLES:
        raise SourceError(
            f"{text} is a pickle, and opening a pickle can run any code, so edgekit does not. Load it where you trust "
            "it, then either write the program with torch.export.save(torch.export.export(module, inputs), "
            "'model.pt2'), or the weights with safetensors.torch.save_file(module.state_dict(), "
            "'weights.safetensors') and name a factory that loads them: file.py:factory"
        )
    if suffix in _MODEL_FILES:
        raise SourceError(
            f"{text} is a finished model file; a network is wanted here ({_FORMS}). To compare or time the file use "
            "edgekit verify, eval or bench"
        )
    if suffix == ".py":
        there = ", ".join(f"{text}:{name}" for name in _callables(path)) or f"{text}:factory"
        raise SourceError(f"{text} names a file but no factory in it; write {there}")
    if suffix == ".keras" or path.is_dir():
        raise UnsupportedError(f"{text}: Keras files and SavedModel folders are not built yet; there are: {_FORMS}")
    known = registry.names("families")
    near = get_close_matches(text.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SourceError(f"no network is called {text!r}; {hint}The zoo has: {', '.join(known)}. A source is {_FORMS}")


def _zoo(name: str) -> Network:
    from edgekit.models.checkpoint import load_checkpoint
    from edgekit.models.family import family

    weights = family(name).weights
    if not weights.is_file():
        raise SourceError(
            f"the trained weights of {name!r} are not there ({weights.name}); train them: edgekit train {name} --data "
            f"{family(name).data} -o {name}.safetensors"
        )
    return load_checkpoint(weights)


def _further(name: str) -> Network | None:
    """The network shipped as ``FAMILY-DATA`` (``lstm-etth1``); None where there is none of that name."""
    from edgekit.models.checkpoint import load_checkpoint
    from edgekit.models.family import renamed, shipped

    weights = shipped().get(name)
    return None if weights is None else renamed(load_checkpoint(weights), name)


def _from_factory(place: str, attribute: str) -> Network:
    with _seeded():
        module = _import(place)
    spelled = f"{place}:{attribute}"
    found = getattr(module, attribute, None)
    if found is None:
        there = [key for key, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        near = get_close_matches(attribute, there, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SourceError(f"{place} has no {attribute!r}; {hint}it has: {', '.join(there) or 'no function or class'}")
    with _seeded():
        made = _call(found, spelled)
    network, inputs = _split(made, spelled)
    file = getattr(module, "__file__", None)
    config: dict[str, Any] = {"factory": spelled}
    if file:
        config["sha256"] = sha256_file(file)
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (_tuple(inputs), {})
    return _assemble(network, args, kwargs, attribute, config, spelled)


@contextmanager
def _seeded() -> Iterator[None]:
    """Torch's random numbers from seed 0, and afterwards as they were: a factory without trained weights gives the
    same network every time it is named, so that its files can be verified against it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _assemble(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    name: str,
    config: Mapping[str, Any],
    spelled: str,
) -> Network:
    from edgekit.adapter import adapt
    from edgekit.models.checkpoint import weights_sha256

    try:
        adapted, examples, signature = adapt(module, args, kwargs)
    except SourceError as error:
        raise SourceError(f"{spelled}: {error}") from error
    digest = weights_sha256(adapted.state_dict())
    card = Card(name, "custom", Task(), signature, config=config, source_sha256=digest)
    return Network(adapted, examples, card)


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
    path = Path(place).resolve()
    if not path.is_file():
        raise SourceError(f"{place} does not exist; give the path of a Python file, as file.py:factory")
    name = f"edgekit_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SourceError(f"{place} cannot be read as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that it can import its neighbours, as it could when run as a program
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise _told(error, f"importing {place}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _call(found: Any, spelled: str) -> Any:
    import torch

    if isinstance(found, torch.nn.Module):
        return found
    if not callable(found):
        kind = type(found).__name__
        raise SourceError(f"{spelled} is a {kind}; a factory is a function without arguments: {_RETURN}")
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
    return filename == __file__ or filename.startswith("<frozen")


def _split(made: Any, spelled: str) -> tuple[torch.nn.Module, Any]:
    """Module and example inputs of what a factory returned."""
    import torch

    module, inputs = made, None
    if isinstance(made, tuple | list) and len(made) == 2 and isinstance(made[0], torch.nn.Module):
        module, inputs = made
    if not isinstance(module, torch.nn.Module):
        shown = f"a {type(made).__name__}" if not isinstance(made, tuple) else f"a tuple of {len(made)}"
        raise SourceError(f"{spelled} gave {shown}, a torch.nn.Module was expected, with its example inputs: {_RETURN}")
    if inputs is None:
        inputs = getattr(module, "example_inputs", getattr(module, "example_input_array", None))
    if inputs is None:
        arguments = ", ".join(inspect.signature(module.forward).parameters)
        raise SourceError(
            f"{spelled} gave a module without example inputs, so the shapes of forward({arguments}) are unknown; let "
            f"it {_RETURN}"
        )
    return module, inputs


def _callables(path: Path) -> list[str]:
    """Top-level functions and classes of a Python file, read without running it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def _rebuild(config: Mapping[str, Any]) -> torch.nn.Module:
    """The module of a checkpoint that was made from the user's factory."""
    spelled = str(config.get("factory", ""))
    place, _, _ = spelled.rpartition(":")
    if place.endswith(".pt2"):
        raise SourceError(f"the checkpoint was made from {spelled}, which has no builder; name it as file.py:factory")
    try:
        network = _resolve(spelled)
    except InputError as error:
        raise SourceError(f"the checkpoint was made from {spelled!r}, which cannot be had: {error}") from error
    if config.get("sha256") and network.card.config.get("sha256") != config["sha256"]:
        log.warning("%s has changed since the checkpoint was made from it; its weights may not fit", place)
    return network.module


def _from_program(path: Path) -> Network:
    """A program written by torch.export.save; names and contract come from its card where it has one."""
    import torch

    from edgekit.adapter import adapt
    from edgekit.models.checkpoint import weights_sha256
    from edgekit.runtime.pt2 import load_program

    card = read_card(path)
    program = load_program(path)
    shown = [str(item) for item in program.graph_signature.user_inputs]
    names = [spec.name for spec in card.signature.inputs] if card else shown
    args, kwargs = program.example_inputs or ((), {})
    if not args and not kwargs:
        values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
        args = tuple(torch.zeros([int(n) for n in values[item].shape], dtype=values[item].dtype) for item in shown)
    try:
        module, examples, signature = adapt(_still(program.module()), args, kwargs, names)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    if card is not None:
        return Network(module, examples, replace(card, selftest=None))
    config = {"factory": str(path), "sha256": sha256_file(path)}
    digest = weights_sha256(module.state_dict())
    signature = Signature(_dynamic(program, shown, signature.inputs), signature.outputs)
    return Network(module, examples, Card(path.stem, "custom", Task(), signature, config=config, source_sha256=digest))


def _still(module: Any) -> Any:
    """A program's module, whose ``eval`` and ``train`` raise: its mode was settled when it was captured."""
    module.training = False
    module.train = lambda mode=True: module
    module.eval = lambda: module
    return module


def _dynamic(program: Any, shown: list[str], specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """``specs`` with the program's dynamic sizes named: ``batch`` for a first axis, else ``INPUT_AXIS``."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names: dict[str, str] = {}
    result = []
    for item, spec in zip(shown, specs, strict=True):
        shape: list[Dim] = []
        for axis, (size, example) in enumerate(zip(values[item].shape, spec.shape, strict=True)):
            fallback = "batch" if axis == 0 else f"{spec.name}_{axis}"
            shape.append(example if isinstance(size, int) else names.setdefault(str(size), fallback))
        result.append(replace(spec, shape=tuple(shape)))
    return tuple(result)


def _timm(name: str) -> Network:
    """A network of the timm package, with its pretrained weights where they can be fetched."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UnsupportedError(f"timm:{name} needs the package timm, which is not there: pip install timm") from error
    import torch

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        raise SourceError(f"timm has no model called {name!r}; close to it: {', '.join(near) or 'none'}")
    try:
        module = timm.create_model(name, pretrained=True)
    except Exception as error:
        log.warning("timm:%s: no pretrained weights (%s); its weights are random", name, type(error).__name__)
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False)
    about = timm.data.resolve_data_config({}, model=module)
    channels, height, width = about["input_size"]
    config = {"factory": f"timm:{name}", "timm": timm.__version__}
    network = _assemble(module, (torch.zeros(1, channels, height, width),), {}, name, config, f"timm:{name}")
    contract = InputContract(
        "image", "NCHW", (height, width), channels, 1 / 255, tuple(about["mean"]), tuple(about["std"])
    )
    only = network.signature.inputs[0].name
    return replace(network, card=replace(network.card, contract={only: contract}, task=Task("classification")))
