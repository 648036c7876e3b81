"""``--shape INPUT=1x576``: a network at other sizes of its inputs than those of its own examples."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bench.shapes import Shapes
from edgekit.errors import SourceError, UsageError
from edgekit.types import Array, InputSpec, Network, Signature

if TYPE_CHECKING:
    import torch

_LENGTH = {"audio": "frames", "text": "length", "series": "history"}
"""Kind -> the number of its contract that is the second axis of its input."""


def resized(network: Network, shapes: Shapes) -> Network:
    """``network`` with example inputs of ``shapes`` (input -> whole shape), which it is run on once.

    The examples are those it had, repeated or cut along each axis, so that integers stay within what it takes. The
    input spec follows: height and width of images, frames of sounds, words of texts, rows of series.

    Raises:
        UsageError: no such input, another rank, or a size that the spec fixes.
        SourceError: the network raises on them.
    """
    from edgekit.adapter import adapt

    if not shapes:
        return network
    examples = dict(network.example_inputs)
    for name, shape in shapes.items():
        if name not in examples:
            raise UsageError(f"--shape {name}: {network.name} has no such input; it has: {', '.join(examples)}")
        examples[name] = _stretched(name, examples[name], shape)
    told = ", ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
    try:
        module, fed, found = adapt(network.module, tuple(examples.values()), {}, tuple(examples))
    except SourceError as error:
        raise SourceError(f"{network.name} with --shape {told}: {error}") from error
    outputs = tuple(
        replace(spec, name=own.name) for spec, own in zip(found.outputs, network.signature.outputs, strict=True)
    )
    contract = {
        name: fitting(name, rule, shapes[name]) if name in shapes else rule
        for name, rule in network.card.contract.items()
    }
    card = replace(network.card, signature=Signature(found.inputs, outputs), contract=contract)
    return Network(module, fed, card)


def of_axes(network: Network, sizes: Shapes, dynamic: Mapping[str, Mapping[int, str]]) -> dict[str, tuple[int, ...]]:
    """Whole shapes of the inputs of which ``sizes`` names axes: ``{"time": (64,)}`` and ``dynamic`` ``x:1=time``.

    Raises:
        UsageError: one axis with several numbers.
    """
    shapes = {}
    for name, axes in dynamic.items():
        wanted = {axis: sizes[axis_name] for axis, axis_name in axes.items() if axis_name in sizes}
        if wanted and name in network.example_inputs:
            for axis, size in wanted.items():
                if len(size) != 1:
                    raise UsageError(f"--shape {axes[axis]}: a dimension has one size, got {'x'.join(map(str, size))}")
            own = network.example_inputs[name].shape
            shapes[name] = tuple(wanted[axis][0] if axis in wanted else length for axis, length in enumerate(own))
    return shapes


def invented(module: torch.nn.Module, shapes: Shapes, spelled: str) -> dict[str, Any]:
    """Example inputs, float32 random numbers from seed 0, for a module that came without any.

    Raises:
        SourceError: an argument of forward has no shape in ``shapes``.
        UsageError: a shape for something that is not an argument of forward.
    """
    import torch

    arguments = inspect.signature(module.forward).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [name for name, one in arguments.items() if one.kind in kinds]
    for name in shapes:
        if name not in known:
            raise UsageError(f"--shape {name}: forward of {spelled} has no such argument; it has: {', '.join(known)}")
    missing = [n for n in known if n not in shapes and arguments[n].default is inspect.Parameter.empty]
    if missing:
        wanted = " ".join(f"--shape {name}=1x…" for name in missing)
        raise SourceError(
            f"{spelled} gave a module without example inputs; say the shapes of the others, too: {wanted}"
        )
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _stretched(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    if len(shape) != array.ndim:
        own = "x".join(map(str, array.shape)) or "a single number"
        raise UsageError(f"--shape {name}: got {len(shape)} axes, the network's own example has {array.ndim} ({own})")
    for axis, size in enumerate(shape):
        array = array.take(np.arange(size) % array.shape[axis], axis=axis)
    return np.asarray(array, order="C")


def fitting(name: str, rule: InputSpec, shape: tuple[int, ...]) -> InputSpec:
    """The spec of an input that has ``shape`` now."""
    if rule.kind == "image" and rule.size is not None:
        axes = {"NCHW": (2, 3, 1), "NHWC": (1, 2, 3)}.get(rule.layout)
        if axes is None or shape[axes[2]] != rule.channels:
            raise UsageError(
                f"--shape {name}: its images have {rule.channels} channels, laid out as {rule.layout}; only height and "
                "width can be changed"
            )
        size = shape[axes[0]], shape[axes[1]]
        params = dict(rule.params)
        if "shorter" in params:
            params["shorter"] = round(int(params["shorter"]) * min(size) / min(rule.size))
        if "resize" in params:
            before = zip(params["resize"], rule.size, size, strict=True)
            params["resize"] = [round(side * new / old) for side, old, new in before]
        return replace(rule, size=size, params=params)
    if rule.kind in _LENGTH and _LENGTH[rule.kind] in rule.params:
        columns = len(rule.mean)
        if len(shape) > 2 and columns and shape[2] != columns:
            raise UsageError(f"--shape {name}: its samples have {columns} columns; only the second axis can be changed")
        return replace(rule, params={**rule.params, _LENGTH[rule.kind]: shape[1]})
    if rule.kind == "table" and rule.columns and shape[-1] != len(rule.columns):
        raise UsageError(f"--shape {name}: its rows have {len(rule.columns)} columns, whose number cannot be changed")
    return rule
