"""Whether a network gives the same for the same: one that does not cannot be compared with anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ParityError
from edgekit.quality.contents import operators
from edgekit.types import Array, Feed

if TYPE_CHECKING:
    from edgekit.converters.base import Capture


def require_repeatable(capture: Capture, feed: Feed, limit: float) -> None:
    """Runs the captured module twice on ``feed``; outputs may differ by ``limit``, as a file's may.

    Raises:
        ParityError: the outputs differ; the message names the random operators, or the buffers that the call changes.
    """
    before = _state(capture)
    first = capture.reference(feed)
    changed = [name for name, value in _state(capture).items() if not np.array_equal(value, before[name])]
    second = capture.reference(feed)
    name, apart = _apart(first, second)
    if apart <= limit:
        return
    text = (
        f"the network {capture.network.name!r} gives different outputs when it is run again on the same input: "
        f"{name!r} "
        f"differs by {apart:.3g}, so no file can be proved against it"
    )
    random = _random_operators(capture)
    if changed:
        text += f". It changes its own buffers ({', '.join(changed)}): make them an input and an output"
    elif random:
        text += f". It draws random numbers ({', '.join(random)}): leave them out in eval mode, or make them an input"
    else:
        text += ". It keeps state between calls, or draws random numbers: make them an input"
    raise ParityError(f"{text}. Nothing was published")


def _state(capture: Capture) -> dict[str, Array]:
    """Copies of the module's buffers, by the user's own names."""
    buffers = capture.module.named_buffers()
    return {name.removeprefix(capture.prefix): b.detach().to("cpu", copy=True).numpy() for name, b in buffers}


def _apart(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[str, float]:
    """The output that differs most, and by how much; NaN counts as equal to NaN."""
    found = {}
    for name, value in first.items():
        difference = np.abs(value.astype(np.float64) - second[name].astype(np.float64))
        found[name] = float(np.nan_to_num(difference, nan=0.0).max(initial=0.0))
    worst = max(found, key=lambda name: found[name])
    return worst, found[worst]


def _random_operators(capture: Capture) -> list[str]:
    """``rand_like in noise`` for each operator that torch marks as seeded, by the module that calls it."""
    import torch

    from edgekit.source.foreign import foreign_file

    file = foreign_file(capture.module)
    if file is not None:
        return [name for name in operators(file) if name.startswith("Random")]
    found: dict[str, None] = {}
    for node in capture.program.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            stack = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
            where = stack[-1].removeprefix(capture.prefix) if stack else ""
            found[f"{node.target.overloadpacket.__name__}{f' in {where}' if where else ''}"] = None
    return list(found)
