"""A detector whose boxes are as MediaPipe's ObjectDetector wants them: (centre y, centre x, height, width).

MediaPipe takes boxes and scores as two outputs, in that order of coordinates and no other, decodes them by anchors that
stand in the file's metadata and leaves out overlapping ones itself. Source: ``detection_postprocessing_graph.cc`` of
MediaPipe 0.10 and later (``box_format: YXHW``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgekit.converters.pixels import is_rgb
from edgekit.errors import UnsupportedError, UsageError
from edgekit.taskfields import CENTRED
from edgekit.types import Network

if TYPE_CHECKING:
    import torch

_ROWS = {
    "xyxy": ([0.0, 0.5, 0.0, 0.5], [0.5, 0.0, 0.5, 0.0], [0.0, -1.0, 0.0, 1.0], [-1.0, 0.0, 1.0, 0.0]),
    "yxyx": ([0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [-1.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0]),
    "cxcywh": ([0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]),
    "xywh": ([0.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]),
}
"""Format of a box -> what each of centre y, centre x, height and width takes of its four numbers."""


def with_centred_boxes(network: Network) -> Network:
    """``network``, a detector, with boxes in the order :data:`CENTRED`; other networks and such detectors as they are.

    Raises:
        UnsupportedError: MediaPipe takes no such detector; the message says what it takes.
    """
    task = network.card.task
    if task.kind != "detection" or task.params.get("boxes") == CENTRED:
        return network
    place = _boxes(network)
    given = task.params.get("boxes")
    if given not in _ROWS:
        known = ", ".join((*_ROWS, CENTRED))
        raise UnsupportedError(f"--mediapipe: boxes of {network.name} are {given!r}; give boxes as one of {known}")
    for name, value, why in (
        ("background", task.params.get("background"), "it has no class for the background"),
        ("activation", task.params.get("activation") == "softmax", "it knows logits and probabilities"),
    ):
        if value:
            raise UnsupportedError(f"--mediapipe: {name} of {network.name} cannot be honoured by MediaPipe: {why}")
    params = {**task.params, "boxes": CENTRED, "boxes_output": network.signature.outputs[place].name}
    module = _centred(network.module, str(given), place)
    return replace(network, module=module, card=replace(network.card, task=replace(task, params=params)))


def needs_raw_pixels(network: Network) -> bool:
    """Whether the image has another mean or std in each channel, or another order of colours, which MediaPipe refuses.

    Raises:
        UsageError: no input is an image by contract.
        UnsupportedError: there are several inputs.
    """
    images = [rule for rule in network.card.contract.values() if rule.kind == "image"]
    if images and len(network.signature.inputs) > 1:
        listed = ", ".join(map(str, network.signature.inputs))
        raise UnsupportedError(f"--mediapipe: MediaPipe gives one picture, and {network.name} takes {listed}")
    if not images:
        raise UsageError(
            "--mediapipe is for networks of images, and no input is said to be one; give --mean and --std, or --layout "
            "where it takes values of 0..1"
        )
    return any(not is_rgb(rule) or len({*rule.mean}) > 1 or len({*rule.std}) > 1 for rule in images)


def _boxes(network: Network) -> int:
    """Place of the output with boxes (N, boxes, 4) beside that with scores (N, boxes, classes)."""
    outputs = network.signature.outputs
    shapes = [spec.shape for spec in outputs]
    named = network.card.task.params.get("boxes_output")
    found = [k for k, spec in enumerate(outputs) if spec.name == named] if named else []
    found = found or [k for k, shape in enumerate(shapes) if len(shape) == 3 and shape[2] == 4]
    if len(outputs) == 2 and len(found) == 2:  # four classes: boxes come first
        found = found[:1]
    fits = len(outputs) == 2 and len(found) == 1 and all(len(shape) == 3 for shape in shapes)
    if not fits or shapes[0][1] != shapes[1][1]:
        listed = ", ".join(map(str, outputs))
        raise UnsupportedError(
            "--mediapipe: MediaPipe takes detectors with two outputs, boxes (1, N, 4) and scores (1, N, classes); "
            f"{network.name} has {listed}; let forward return those two"
        )
    return found[0]


def _centred(module: torch.nn.Module, given: str, place: int) -> torch.nn.Module:
    import torch

    class Centred(torch.nn.Module):
        is_adapter = True

        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.register_buffer("rows", torch.tensor(_ROWS[given]))

        def forward(self, *inputs: torch.Tensor) -> Any:
            results = list(self.module(*inputs))
            results[place] = torch.nn.functional.linear(results[place], self.get_buffer("rows"))
            return tuple(results)

    return Centred().eval()
