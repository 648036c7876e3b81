"""Which kind of source a text is; each kind is one module here, named in the table ``sources``."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from edgekit import registry
from edgekit.errors import SourceError
from edgekit.source.base import RETURN, Source
from edgekit.source.inspection import callables

_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
_MODEL_FILES = (".onnx", ".tflite")


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


def _kind(name: str) -> Source:
    found = registry.lookup("sources", name)
    made = found() if isinstance(found, type) else found
    if not isinstance(made, Source):
        raise SourceError(f"the source {name!r} is a {type(made).__name__}, not an edgekit.source.Source")
    return made


def _unknown(text: str, forms: str) -> SourceError:
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        return SourceError(
            f"{text} is a pickle: weights or a whole network, without its code. Name the code and give it the weights: "
            f"file.py:factory --weights {text}. A whole network is loaded where you trust it and written with "
            "torch.export.save(torch.export.export(module, inputs), 'model.pt2')"
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
            f"{text} is a folder that edgekit does not recognise. A folder with a config.json of transformers is "
            f"named hf:{text}; a network of your own by its file: {path / 'net.py'}:factory, with {RETURN}"
        )
    known = registry.names("families")
    near = get_close_matches(text.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SourceError(f"no network is called {text!r}; {hint}the zoo has: {', '.join(known)}. A source is {forms}")
