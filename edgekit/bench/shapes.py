"""The free dimensions of a model: ``--shape INPUT=1x576``, ``--shape DIMENSION=576``, ``--batch N``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.errors import UnsupportedError, UsageError
from edgekit.reading import whole_number
from edgekit.types import Feed, Signature, TensorSpec

Shapes = Mapping[str, tuple[int, ...]]


def parse_shapes(texts: Sequence[str]) -> Shapes:
    """``["tokens=1x576", "time=64"]`` -> ``{"tokens": (1, 576), "time": (64,)}``.

    Raises:
        UsageError: not NAME=NUMBER or NAME=NUMBERxNUMBER…, or a number below 1.
    """
    shapes = {}
    for text in texts:
        name, equals, numbers = text.partition("=")
        parts = numbers.lower().split("x")
        if not (name and equals and all(whole_number(part) for part in parts)):
            raise UsageError(f"--shape {text!r} is not understood; write INPUT=1x576 or DIMENSION=576, numbers from 1")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def free_dims(signature: Signature, shapes: Shapes, batch: int | None = None) -> dict[str, int]:
    """Values for named dimensions of ``signature``; those that nothing names are left out (they become 1).

    ``batch`` is the first axis of every input; None leaves it to ``shapes``.

    Raises:
        UsageError: a name that is neither an input nor a dimension, another rank, or two values for one dimension.
        UnsupportedError: ``batch`` against a file whose first axis is a fixed number.
    """
    inputs = {spec.name: spec for spec in signature.inputs}
    dims: dict[str, int] = {}
    for name, shape in shapes.items():
        if name in inputs:
            _bind(dims, inputs[name], shape)
        elif name in signature.dynamic_dims and len(shape) == 1:
            _set(dims, name, shape[0])
        else:
            known = ", ".join([*inputs, *signature.dynamic_dims])
            raise UsageError(f"--shape {name}: no input or free dimension is called so; there are: {known}")
    if batch is not None:
        _bind_batch(dims, signature, batch)
    return dims


def batch_of(feed: Feed) -> int:
    """Samples in one feed: the first axis of the first input that has more than one axis, else 1."""
    return next((int(array.shape[0]) for array in feed.values() if array.ndim > 1), 1)


def _bind(dims: dict[str, int], spec: TensorSpec, shape: tuple[int, ...]) -> None:
    if len(shape) != len(spec.shape):
        raise UsageError(f"--shape {spec.name}: got {len(shape)} axes, {spec} has {len(spec.shape)}")
    for wanted, found in zip(shape, spec.shape, strict=True):
        if isinstance(found, str):
            _set(dims, found, wanted)
        elif found != wanted:
            raise UsageError(f"--shape {spec.name}: got {wanted} where {spec} is fixed to {found}")


def _bind_batch(dims: dict[str, int], signature: Signature, batch: int) -> None:
    for spec in signature.inputs:
        if not spec.shape or spec.shape[0] == batch:
            continue
        first = spec.shape[0]
        if isinstance(first, int):
            raise UnsupportedError(
                f"--batch {batch}: {spec} has a fixed first axis of {first}; "
                f"export it with --dynamic {spec.name}:0=batch"
            )
        _set(dims, first, batch)


def _set(dims: dict[str, int], name: str, value: int) -> None:
    if dims.setdefault(name, value) != value:
        raise UsageError(f"dimension {name!r} is given as {dims[name]} and as {value}; give one")
