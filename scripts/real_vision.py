"""Networks that see: MTCNN's three, nudenet, MediaPipe's, on the photographs that scikit-image ships and on cifar10."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from real_packages import unpacked
from real_subject import Arrays, Measured, Prepared, Subject, torch_reference

from edgekit.data import open_data

PHOTOGRAPHS = "scikit-image==0.26.0"
NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png")
FACE = (170, 60, 290, 220)
"""Of the astronaut: left, top, right, bottom."""


@cache
def photographs(cache_folder: Path) -> list[Image.Image]:
    """The photographs in colour; the first one holds a face."""
    folder = unpacked(PHOTOGRAPHS, cache_folder) / "skimage" / "data"
    return [Image.open(folder / name).convert("RGB") for name in NAMES]


def crops(package: Path, size: int, count: int, seed: int) -> Arrays:
    """(count, size, size, 3) uint8 from the photographs: a tenth about the face, a third of cifar10 instead."""
    random, images = np.random.default_rng(seed), photographs(package.parent)
    small = open_data("cifar10@test").arrays["image"]
    found = []
    for number in range(count):
        about = number % 10 == 0
        if not about and number % 3 == 2:
            image = Image.fromarray(small[int(random.integers(len(small)))])
            box = (0, 0, *image.size)
        else:
            image = images[0] if about else images[random.integers(len(images))]
            edge = int(random.uniform(90, 220) if about else random.uniform(48, min(image.size)))
            middle = (np.array(FACE[:2]) + FACE[2:]) / 2 + random.normal(0, 25, 2)
            corner = random.uniform(0, np.array(image.size) - edge)
            corner = np.clip(middle - edge / 2, 0, None) if about else corner
            box = (int(corner[0]), int(corner[1]), int(corner[0]) + edge, int(corner[1]) + edge)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
        found.append(pixels[:, ::-1] if random.integers(2) else pixels)
    return np.stack(found)


def _mtcnn(name: str, size: int, calibration: int, test: int) -> Subject:
    """One of the three; pixels become -1..1, channels first."""

    def images(package: Path, count: int, seed: int) -> Arrays:
        pixels = (crops(package, size, count, seed).astype(np.float32) - 127.5) / 128
        return {"image": pixels.transpose(0, 3, 1, 2).copy()}

    def prepare(package: Path, work: Path) -> Prepared:
        samples = images(package, test, 1)
        reference = torch_reference(name, package, samples)
        return Prepared({"torch": name}, images(package, calibration, 0), samples, {}, reference)

    samples = "crops of scikit-image's photographs, a tenth about the face in them, and of cifar10"
    title = f"mtcnn-{name}"
    wanted = "decisions (face or not, 0.7) as the package's network"
    more = {"int8": ("--mixed", "--min-snr", "30")}
    return Subject(title, "facenet-pytorch==2.6.0", samples, wanted, 0.999, prepare, decisions, options=more)


def decisions(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Share of places that are called a face as in the reference."""
    expected, found = (np.moveaxis(each["face"], 2, -1)[..., 1] >= 0.7 for each in (reference, outputs))
    same = float((expected == found).mean())
    return Measured(same, f"{same:.2%} of {expected.size:,} ({expected.mean():.1%} faces)")


def _scaled(package: Path, size: int, count: int, seed: int) -> Arrays:
    """(count, size, size, 3) float32 in 0..1: stretches of the photographs, most of each photograph in them."""
    random, images = np.random.default_rng(seed), photographs(package.parent)
    found = []
    for number in range(count):
        image = images[0] if number % 2 == 0 else images[random.integers(len(images))]
        width, height = image.size
        share = random.uniform(0.55, 1.0)
        left, top = random.uniform(0, (1 - share) * width), random.uniform(0, (1 - share) * height)
        box = (left, top, left + share * width, top + share * height)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
        found.append(pixels[:, ::-1] if random.integers(2) else pixels)
    return np.stack(found).astype(np.float32) / 255


def nudenet(package: Path, work: Path) -> Prepared:
    """320 × 320, channels first, 0..1."""
    calibration, test = (_scaled(package, 320, count, seed) for seed, count in enumerate((32, 60)))
    sides = [{"images": side.transpose(0, 3, 1, 2).copy()} for side in (calibration, test)]
    return Prepared({"onnx": package / "nudenet" / "320n.onnx"}, *sides)


def boxes(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Mean overlap (intersection over union) of the best box of each class and image that float is sure of; 0 for a box
    that is not found."""
    overlaps = []
    for expected, found in zip(reference["output0"][:, 0], outputs["output0"][:, 0], strict=True):
        for kind in np.flatnonzero(expected[4:].max(1) >= 0.25):
            a, b = (side[:4, side[4 + kind].argmax()] for side in (expected, found))
            overlaps.append(_overlap(a, b) if found[4 + kind].max() >= 0.2 else 0.0)
    mean = float(np.mean(overlaps)) if overlaps else 0.0
    return Measured(mean, f"{mean:.3f} of {len(overlaps)} boxes")


def _overlap(a: Arrays, b: Arrays) -> float:
    """Of two boxes (middle, size)."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    common = float(np.prod(np.maximum(high - low, 0)))
    return common / (float(np.prod(a[2:]) + np.prod(b[2:])) - common)


def _mediapipe(title: str, path: str, size: int, measure_name: str, bar: float, measure: Any, low: float) -> Subject:
    """A file of MediaPipe; pixels from ``low`` to 1, channels last."""

    def prepare(package: Path, work: Path) -> Prepared:
        from ai_edge_litert.interpreter import Interpreter

        model = package / "mediapipe" / "modules" / path
        (entry,) = Interpreter(model_path=str(model)).get_input_details()
        sides = [_scaled(package, size, count, seed) * (1 - low) + low for seed, count in enumerate((60, 100))]
        return Prepared({"tflite": model}, *[{entry["name"]: side} for side in sides])

    samples = "stretches of scikit-image's photographs, half of them with a person"
    return Subject(title, "mediapipe==0.10.21", samples, measure_name, bar, prepare, measure)


def mask(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Pixels of a person in both, as a share of those in either."""
    expected, found = (next(iter(each.values())) >= 0.5 for each in (reference, outputs))
    share = float((expected & found).sum() / max((expected | found).sum(), 1))
    return Measured(share, f"{share:.3f} ({expected.mean():.0%} person)")


def faces(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Share of images whose best anchor is called a face, or not, as by float, and where it is, at the same or the next
    anchor."""
    name = next(name for name, values in reference.items() if values.shape[-1] == 1)
    expected, found = (each[name].reshape(len(each[name]), -1) for each in (reference, outputs))
    sure = expected.max(1) >= 0  # logits
    agree = sure == (found.max(1) >= 0)
    at_best = np.take_along_axis(found, expected.argmax(1)[:, None], 1)[:, 0]
    near = ~sure | (at_best >= found.max(1) - 1)
    share = float((agree & near).mean())
    return Measured(share, f"{share:.1%} of {len(sure)} images ({sure.mean():.0%} with a face)")


SUBJECTS = (
    _mtcnn("pnet", 96, 100, 60),
    _mtcnn("rnet", 24, 300, 3000),
    _mtcnn("onet", 48, 300, 3000),
    Subject(
        "nudenet", "nudenet==3.4.2", "stretches of scikit-image's photographs, half of them with a person",
        "mean overlap of the boxes float is sure of", 0.9, nudenet, boxes,
    ),
    _mediapipe(
        "mediapipe-selfie", "selfie_segmentation/selfie_segmentation.tflite", 256,
        "overlap of the person's pixels", 0.95, mask, 0.0,
    ),
    _mediapipe(
        "mediapipe-face", "face_detection/face_detection_short_range.tflite", 128, "decisions as float's", 0.95,
        faces, -1.0,
    ),
)  # fmt: skip
