"""Channels of a float model file scaled so that one scale a tensor rounds all of them well; it computes the same.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.1, with the peaks
of the activations in place of those of the weights in front, whose rows have a scale each; and Xiao et al., SmoothQuant
(2023), equation 4, which is the same change behind a layer norm. How far each set of channels is scaled, and whether
at all, follows from the rounding noise to be expected of the layers behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import write_card
from edgekit.errors import GateError
from edgekit.quantization.calibrate.histogram import Channels
from edgekit.quantization.linear_graph import LinearGraph, OperatorKind, ScalingGroup
from edgekit.types import Array, Artifact, Feed

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
"""SmoothQuant's alpha: 1 makes the peaks of all channels equal."""
WORTH = 0.1
"""Share of the expected noise power that may be left for a set of channels to be scaled. Between a third and half of it
was left for sets of the shipped cnn, and the error of its outputs rose by a tenth."""
TOLERANCE = 1e-5
"""Largest change of a float output, as a share of the largest output. Scaling rounds every weight once more, by 6e-8 of
itself at most; 2e-7 to 9e-7 were seen."""


@dataclass(frozen=True)
class Scaled:
    """A set of channels that was scaled.

    Attributes:
        source: name of the operator that makes the channels.
        tensor: that it gives.
        readers: names of the layers that read them.
        spread: largest over smallest peak of a live channel, before.
        noise: expected noise power of the readers' outputs, as a share of what it was.
    """

    source: str
    tensor: str
    readers: tuple[str, ...]
    spread: float
    noise: float


def equalize_file(
    graph: LinearGraph, parent: Artifact, channels: Mapping[str, Channels], feeds: Iterable[Feed], target: Path
) -> tuple[Scaled, ...]:
    """Writes ``target``, a float file that computes what ``parent`` does with its channels scaled for rounding to 8
    bits, one scale a tensor; what was scaled. Nothing is written where no set of channels is worth it.

    Args:
        graph: of ``parent``, which is changed.
        channels: tensor -> its channels on calibration samples, of those in :func:`channels_read`.
        feeds: samples on which both files are run, to prove that they compute the same.

    Raises:
        GateError: they do not.
    """
    scaled = tuple(equalize(graph, graph.scaling_groups(), channels))
    if scaled:
        graph.save(target)
        if parent.card is not None:
            write_card(target, parent.card)
        prove_equal(parent, Artifact(target, parent.format, parent.card), feeds)
    return scaled


def prove_equal(parent: Artifact, made: Artifact, feeds: Iterable[Feed]) -> None:
    """Runs both files on ``feeds``.

    Raises:
        GateError: an output differs by more than :data:`TOLERANCE` of its scale.
    """
    from edgekit.devices import open_runner

    with open_runner(parent.path) as first, open_runner(made.path) as second:
        for feed in feeds:
            wanted, found = first.run(feed), second.run(feed)
            for name, value in wanted.items():
                change, scale = np.abs(found[name] - value).max(initial=0), np.abs(value).max(initial=0)
                if not change <= TOLERANCE * scale:
                    raise GateError(
                        f"{name} of the equalized file differs from its parent's by {change:.3g}, its scale is "
                        f"{scale:.3g}; at most {TOLERANCE:g} of that is rounding"
                    )


def channels_read(groups: Iterable[ScalingGroup]) -> dict[str, Channels]:
    """Tensor -> a place for the statistics of its channels, for every tensor that a reader of ``groups`` reads."""
    return {one.inputs[0]: Channels(one.axis or -1) for group in groups for one in group.readers}


def equalize(graph: LinearGraph, groups: Iterable[ScalingGroup], seen: Mapping[str, Channels]) -> list[Scaled]:
    """Scales the channels of ``groups`` in ``graph`` where that is worth it; what was scaled.

    From the last to the first: what a reader gives is then scaled already, and noise counts where it will be.
    """
    done = []
    for group in reversed(list(groups)):
        if not all(seen[one.inputs[0]].count for one in group.readers):  # a tensor that only the prepared file has
            continue
        found = best(graph, group, seen)
        if found is None:
            continue
        scale, noise = found
        scale_channels(graph, group, scale)
        peaks = np.max([seen[one.inputs[0]].peak for one in group.readers], axis=0)
        spread = float(peaks.max() / peaks[peaks > 0].min())
        source, readers = group.source, tuple(one.name for one in group.readers)
        done.append(Scaled(source.name, source.outputs[0], readers, spread, noise))
    return done[::-1]


def best(graph: LinearGraph, group: ScalingGroup, seen: Mapping[str, Channels]) -> tuple[Array, float] | None:
    """(channels,) what to divide by, and the share of the noise power that is left; None where it is not worth it."""
    # channels that are always zero stay as they are: nothing says how large they may become
    sides = [(graph.rows(one), one.groups, seen[one.inputs[0]]) for one in group.readers]
    peak = np.max([side.peak for _, _, side in sides], axis=0)
    reach = np.max([_columns(np.abs(rows).max(2), groups, np.max) for rows, groups, _ in sides], axis=0)
    live = (peak > 0) & (reach > 0)
    if not live.any():
        return None

    def noise(scale: Array) -> float:
        return sum(_noise(rows, groups, side, scale) for rows, groups, side in sides)

    tried = []
    for strength in STRENGTHS:
        scale = np.ones(group.channels)
        scale[live] = peak[live] ** strength / reach[live] ** (1 - strength)
        scale[live] /= np.exp(np.log(scale[live]).mean())
        tried.append((noise(scale), scale))
    least, scale = min(tried, key=lambda one: one[0])
    left = least / max(noise(np.ones(group.channels)), 1e-300)
    return (scale, left) if left < WORTH else None


def _noise(rows: Array, groups: int, seen: Channels, scale: Array) -> float:
    """Expected sum of squared rounding errors of a layer's outputs at one place: 255 steps for the span of its input,
    127 for the largest weight of each output, errors evenly spread within a step."""
    step = (float((seen.high / scale).max()) - float((seen.low / scale).min())) / 255
    per_row = np.repeat(scale.reshape(groups, -1), len(rows) // groups, axis=0)[:, :, None]
    squares = np.repeat((seen.square / scale**2).reshape(groups, -1), len(rows) // groups, axis=0).sum(1)
    weights = rows * per_row
    steps = np.abs(weights).max(axis=(1, 2)) / 127
    return float((step**2 * (weights**2).sum() + rows.shape[2] * (steps**2 * squares).sum()) / 12)


def _columns(values: Array, groups: int, how: Callable[..., Any]) -> Array:
    """(outputs, inputs of a group) -> (channels,)."""
    return np.concatenate([how(part, axis=0) for part in np.split(values, groups)])


def scale_channels(graph: LinearGraph, group: ScalingGroup, scale: Array) -> None:
    """Divides the channels of ``group`` by (channels,) ``scale``, and multiplies the weights that read them."""
    if group.source.kind is OperatorKind.LAYER:
        graph.change_rows(group.source, graph.rows(group.source) / scale[:, None, None])
    for name in group.shifts:
        value = graph.constant(name)
        assert value is not None
        graph.change(name, (value.reshape(-1) / scale).reshape(value.shape).astype(np.float32))
    for reader in group.readers:
        rows = graph.rows(reader)
        per_row = np.repeat(scale.reshape(reader.groups, -1), len(rows) // reader.groups, axis=0)[:, :, None]
        graph.change_rows(reader, rows * per_row)
