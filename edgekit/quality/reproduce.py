"""A Python file that shows a failing part alone: the module, one call of it, and the tool that fails on it."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.artifact import library_versions
from edgekit.bench.shapes import Shapes
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_onnx import DEFAULT_OPSET
from edgekit.errors import ConversionError, InputError
from edgekit.outputs import publishing
from edgekit.quality.causes import explain
from edgekit.quality.failing import TOOLS, Failing, Part, convert_alone, smallest
from edgekit.quality.state import has_recurrent_layers
from edgekit.types import Network
from edgekit.version import __version__

if TYPE_CHECKING:
    pass

_PACKAGES = {
    "torch.export": ("torch",),
    "onnx": ("torch", "onnx", "onnxscript"),
    "tflite": ("torch", "litert-torch", "litert-converter"),
}
_TOOL = {
    "torch.export": "",
    "onnx": "torch.onnx.export(program, dynamo=True, opset_version={opset})\n",
    "tflite": "import litert_torch\n\nlitert_torch.convert(program.module(), args, kwargs)\n",
}
_CAPTURE = "program = torch.export.export(module, args, kwargs)\n"
_OURS = """from edgekit.quality.failing import convert_alone

convert_alone({tool!r}, module, args, kwargs)  # as edgekit export does it
"""


class Named(NamedTuple):
    """A network as the user named it: a SOURCE, and what builds it where that is a checkpoint of the user's own."""

    source: str
    factory: str | None = None


def located(error: ConversionError, capture: Capture, named: Named | None, folder: Path) -> ConversionError:
    """``error`` with the smallest part of the network that fails by itself, its cause, and a file that shows it,
    where the network has a name by which it can be made again."""
    failing = smallest(capture, error)
    if failing is None:
        words = explain(error.detail).words
        advice = (
            f"With all sizes fixed, as its example inputs have them, it does convert. Cause: {words}. {error.advice}"
        )
        return ConversionError(error.tool, error.headline, advice, error.detail)
    part = failing.part
    which = f"{part.name} ({type(part.module).__name__})" if part.name else "the network as a whole; none of its parts"
    ended = "" if failing.finished else ". The search ended before all parts were tried: a smaller one may fail too"
    shown = "" if named is None else f"{write(folder, named, capture.network, failing, capture.options)} shows it; "
    advice = (
        f"The smallest part that fails by itself: {which}. Cause: {failing.cause.words}{ended}. {shown}"
        "nothing was published"
    )
    return ConversionError(error.tool, error.headline, advice, failing.error.detail)


def write(folder: Path, named: Named, network: Network, failing: Failing, options: ConversionOptions) -> Path:
    """Writes ``repro_PART.py`` into ``folder`` and returns its path. Running it ends with the error of the part.

    The module is a layer of torch.nn written out where it is one, else it is taken out of the network that ``source``
    makes, which is imported where it is a factory. Its arguments are random numbers of the same kind where those fail
    too, else what it is given when the network runs on its example inputs.
    """
    part, tool, shapes = failing.part, failing.error.tool, options.shapes
    opset = options.opset or DEFAULT_OPSET
    path = folder / f"repro_{re.sub(r'[^a-zA-Z0-9]', '_', part.name or network.name)}.py"
    arguments = _arguments(part, failing.error, opset)
    text = _head(named.source, network, failing, arguments is not None)
    if arguments is None:
        text += _taken(named, part, shapes)
    else:
        text += f"import torch\n\n{_module(named, part, shapes)}{arguments}"
    text += "\nwith torch.no_grad():\n    module(*args, **kwargs)  # runs in PyTorch\n"
    ours = arguments is None or failing.error.written or has_recurrent_layers(part.module)
    text += _OURS.format(tool=tool) if ours else _CAPTURE + _TOOL[tool].format(opset=opset)
    with publishing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _head(source: str, network: Network, failing: Failing, random: bool) -> str:
    part, tool = failing.part, failing.error.tool
    versions = ", ".join(f"{k} {v}" for k, v in library_versions(*_PACKAGES[tool]).items())
    said = failing.error.headline.partition(": ")[2]
    weights = "random, from seed 0" if random and _written_out(part) else f"those of {source}, seed 0"
    inputs = "random, from seed 0" if random else "what the network gives it on its example inputs"
    text = (
        f"{part.name or 'the whole network'} of {network.name}: {TOOLS[tool]} cannot convert it alone.\n\n"
        f"Class: {part.kind}.\nIt ends with: {said}\nCause: {failing.cause.words}.\n"
        f"Weights: {weights}. Inputs: {inputs}.\n"
        f"Written by edgekit {__version__} with {versions}.\n"
    )
    # Names come from files: nothing in them may end the docstring, what follows would run with the file.
    plain = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return f'"""{plain.replace(chr(92), "/").replace(chr(34), chr(39))}"""\n\n'


def _module(named: Named, part: Part, shapes: Shapes) -> str:
    """Lines that make ``module`` in eval mode."""
    written = _written_out(part)
    if written:
        return f"torch.manual_seed(0)\nmodule = {written}.eval()\n"
    inner = f".get_submodule({part.name!r})" if part.name else ""
    place, _, factory = named.source.rpartition(":")
    file = place.endswith(".py")
    name = Path(place).stem if file else place
    words = [*name.split("."), factory]
    if not place or not all(word.isidentifier() and not keyword.iskeyword(word) for word in words) or name == "timm":
        return f"{_whole(named, shapes)}module = network{inner}\ntorch.manual_seed(0)\n"
    folder = Path(place).resolve().parent if file else Path.cwd()
    return (
        f"import sys\n\nsys.path.insert(0, {str(folder)!r})\nfrom {name} import {factory} as factory\n\n"
        "torch.manual_seed(0)\nmade = factory if isinstance(factory, torch.nn.Module) else factory()\n"
        "network = made if isinstance(made, torch.nn.Module) else made[0]\n"
        f"module = network.eval(){inner}\n"
    )


def _whole(named: Named, shapes: Shapes) -> str:
    """Lines that make ``whole``, the source as edgekit takes it, and ``network``, the module in it."""
    sized = f", shapes={dict(shapes)!r}" if shapes else ""
    built = f", factory={_anywhere(named.factory)!r}" if named.factory else ""
    return (
        f"from edgekit.source import resolve\n\nwhole = resolve({_anywhere(named.source)!r}{sized}{built})\n"
        "network = whole.module\n"
        "while getattr(network, 'is_adapter', False):\n    network = network.module\n"
    )


def _anywhere(source: str) -> str:
    """``source`` so that it means the same in another folder."""
    place, colon, rest = source.rpartition(":")
    if not Path(place or source).exists():
        return source
    return f"{Path(place).resolve()}:{rest}" if colon else str(Path(source).resolve())


def _taken(named: Named, part: Part, shapes: Shapes) -> str:
    """Lines that make ``module``, run the network once, and keep what the module was given."""
    inner = f".get_submodule({part.name!r})" if part.name else ""
    return (
        f"import torch\n{_whole(named, shapes)}module = network{inner}\n\ncalls = []\n"
        "handle = module.register_forward_pre_hook(\n"
        "    lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True\n)\n"
        "with torch.no_grad():\n"
        "    whole.module(*(torch.from_numpy(whole.example_inputs[spec.name]) for spec in whole.signature.inputs))\n"
        "handle.remove()\nargs, kwargs = calls[0]\n"
    )


def _written_out(part: Part) -> str | None:
    """The constructor call of a layer of torch.nn without parts, where what it prints is one; else None."""
    import torch

    if type(part.module).__module__.partition(".")[0] != "torch" or list(part.module.children()):
        return None
    text = f"torch.nn.{part.module!r}"
    try:
        made = eval(text, {"torch": torch, "__builtins__": {}})
    except Exception:  # what a layer prints need not be Python
        return None
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (made, part.module)]
    return text if repr(made) == repr(part.module) and shapes[0] == shapes[1] else None


def _arguments(part: Part, error: ConversionError, opset: int) -> str | None:
    """Lines that make random arguments of the same kind, where the tool fails on those in the same way; else None."""
    import torch

    args, kwargs = _spelled(part.args), _spelled(dict(part.kwargs))
    if args is None or kwargs is None:
        return None
    scope: dict[str, Any] = {"torch": torch}
    text = f"args, kwargs = {args}, {kwargs}\n"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(text, scope)
    try:
        convert_alone(error.tool, part.module, scope["args"], scope["kwargs"], opset)
    except ConversionError as found:
        return text if explain(found.detail).kind == explain(error.detail).kind else None
    except InputError:
        return None
    return None


def _spelled(value: Any) -> str | None:
    """Python for a value like this one: tensors as random numbers (integers as zeros); None where it cannot be said."""
    import torch

    if isinstance(value, torch.Tensor):
        shape = tuple(value.shape)
        if value.dtype == torch.float32:
            return f"torch.randn({shape})"
        if value.is_floating_point():
            return f"torch.randn({shape}).to({value.dtype})"
        fill = "ones" if value.dtype == torch.bool else "zeros"
        return None if value.is_complex() else f"torch.{fill}({shape}, dtype={value.dtype})"
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    if type(value) in (tuple, list):
        parts = [_spelled(item) for item in value]
        if None in parts:
            return None
        inside = ", ".join(str(item) for item in parts)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(parts) == 1 else ''})"
    if type(value) is dict:
        pairs = {repr(key): _spelled(item) for key, item in value.items()}
        return None if None in pairs.values() else "{" + ", ".join(f"{k}: {v}" for k, v in pairs.items()) + "}"
    return None
