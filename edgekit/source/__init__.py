"""What the user typed -> a Network. Each kind of source is one module here, named in the table ``sources``.

Nothing is unpickled. Code runs only where the user names it (a factory), never because a file does.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from edgekit import registry
from edgekit.bench.shapes import Shapes
from edgekit.errors import SourceError, UsageError
from edgekit.source.base import RETURN, Source
from edgekit.source.checkpoint import Checkpoint
from edgekit.source.inspection import callables
from edgekit.source.weights import origin, random_note
from edgekit.types import Network

__all__ = ["Source", "builder_of", "origin", "random_note", "resolve"]

_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
_MODEL_FILES = (".onnx", ".tflite")


def resolve(
    text: str | Path,
    *,
    name: str | None = None,
    shapes: Shapes | None = None,
    factory: str | None = None,
    option: str = "--factory",
) -> Network:
    """The network the user named, in eval mode, with example inputs and its card.

    Args:
        text: one of the spellings of the kinds in the table ``sources``.
        name: what to call it instead of its own name.
        shapes: input -> whole shape, for examples of other sizes than its own, or where a factory gives none.
        factory: what builds the network, where ``text`` is a checkpoint of the user's own one.
        option: the option of the command line that ``factory`` comes from, for messages.

    Raises:
        SourceError: it cannot be had; the message says what there is, or the user's file, line and exception.
        FactoryNeededError: a checkpoint of the user's own network, without a ``factory``.
        ModelError: a checkpoint or .pt2 file is damaged.
        UnsupportedError: a spelling that edgekit knows but cannot serve here.
        UsageError: ``shapes`` that do not fit its inputs; a ``factory`` that is not needed.
    """
    source, rest = find(str(text))
    if isinstance(source, Checkpoint):
        source = Checkpoint(factory, option)
    elif factory is not None:
        raise UsageError(f"{option} goes with a checkpoint (.safetensors); {text} is not a checkpoint; leave it out")
    network = source.sized(rest, shapes) if shapes else source.resolve(rest)
    return network if name is None else replace(network, card=replace(network.card, name=name))


def find(text: str) -> tuple[Source, str]:
    """The kind of source that ``text`` is, and what to give it.

    Raises:
        SourceError: no kind knows it; the message says why not and what there is.
    """
    kinds = {name: _kind(name) for name in registry.names("sources")}
    prefix, colon, rest = text.partition(":")
    if colon and prefix in kinds and kinds[prefix].prefixed:
        return kinds[prefix], rest
    for kind in kinds.values():
        if not kind.prefixed and kind.claims(text):
            return kind, text
    raise _unknown(text, ", ".join(kind.form for kind in kinds.values()))


def builder_of(source: str, factory: str | None) -> str | None:
    """What builds the network of a checkpoint that was made from ``source``: the code that the user named, by
    ``factory`` or as the source itself; None where the checkpoint needs none.

    Raises:
        SourceError: as :func:`find`.
    """
    kind, _ = find(source)
    own = not kind.inert and not isinstance(kind, Checkpoint)
    return source if own and factory is None else factory


def _kind(name: str) -> Source:
    found = registry.lookup("sources", name)
    made = found() if isinstance(found, type) else found
    if not isinstance(made, Source):
        raise SourceError(f"the source {name!r} is a {type(made).__name__}, no edgekit.source.Source")
    return made


def _unknown(text: str, forms: str) -> SourceError:
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        return SourceError(
            f"{text} is a pickle, and opening a pickle can run any code, so edgekit does not. Load it where you trust "
            "it, then either write the program with torch.export.save(torch.export.export(module, inputs), "
            "'model.pt2'), or the weights with safetensors.torch.save_file(module.state_dict(), "
            "'weights.safetensors') and name a factory that loads them: file.py:factory"
        )
    if suffix in _MODEL_FILES:
        return SourceError(
            f"{text} is a finished model file; a network is wanted here ({forms}). To compare or time the file use "
            "edgekit verify, eval or bench"
        )
    if suffix == ".py":
        there = ", ".join(f"{text}:{name}" for name in callables(path)) or f"{text}:factory"
        return SourceError(f"{text} names a file but no factory in it; write {there}")
    if path.is_dir():
        return SourceError(
            f"{text} is a folder, but of no kind that edgekit knows. A folder with a config.json of transformers is "
            f"named hf:{text}; a network of your own by its file: {path / 'net.py'}:factory, with {RETURN}"
        )
    known = registry.names("families")
    near = get_close_matches(text.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SourceError(f"no network is called {text!r}; {hint}the zoo has: {', '.join(known)}. A source is {forms}")
