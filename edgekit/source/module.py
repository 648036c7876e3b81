"""A torch module that the caller of the Python function has made, with its example inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.source.assemble import assemble
from edgekit.types import Network

if TYPE_CHECKING:
    import torch


def is_module(source: object) -> bool:
    """Whether ``source`` is a torch module; torch is not imported to find out."""
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(source).__mro__)


@contextmanager
def modes_kept(module: torch.nn.Module) -> Iterator[None]:
    """The module is put into eval mode inside; afterwards each of its parts is in the mode that it was in."""
    before = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


def spelled(module: torch.nn.Module) -> str:
    """The class of a module, as results name it: ``mypackage.net.Net``."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def of_module(module: torch.nn.Module, inputs: Any, name: str | None = None) -> Network:
    """The network of ``module``.

    Args:
        inputs: a tensor or array, a tuple of them, or a dict by argument name, with the batch axis.
        name: what to call it; the name of its class without it.

    Raises:
        UsageError: no inputs.
        SourceError: it raises on its inputs, or takes or gives no tensor.
    """
    if inputs is None:
        inputs = getattr(module, "example_inputs", getattr(module, "example_input_array", None))
    if inputs is None:
        raise UsageError(
            f"a {type(module).__name__} was given without example inputs, so the shapes of its inputs are unknown; "
            "give them: export(module, torch.zeros(1, 3, 224, 224), to=..., out=...)"
        )
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    if isinstance(inputs, Mapping):
        kwargs = inputs
    else:
        args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    text = spelled(module)
    plain = re.sub(r"[^\w.-]", "_", name or type(module).__name__)
    return assemble(module, args, kwargs, plain, {"module": text}, text)
