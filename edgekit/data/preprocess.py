"""The I/O contract at work: raw samples become model-ready feeds. numpy only (Pillow to resize an image)."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.data.arrays import read_npz
from edgekit.data.dataset import Dataset
from edgekit.data.images import SUFFIXES, decode
from edgekit.errors import DataError
from edgekit.types import Array, Feed, InputContract, Signature, TensorSpec

log = logging.getLogger("edgekit")


def affine(contract: InputContract, width: int) -> tuple[Array, Array]:
    """``(factor, offset)``, float32 of length ``width``, with model value = raw * factor + offset.

    Raises:
        DataError: the contract has another number of channels or columns than the raw samples.
    """
    mean = np.asarray(contract.mean or (0.0,) * width, np.float64)
    std = np.asarray(contract.std or (1.0,) * width, np.float64)
    if mean.size != width or std.size != width:
        raise DataError(
            f"the samples have {width} {'channels' if contract.kind == 'image' else 'columns'}, the model was made for "
            f"{max(mean.size, std.size)}; give data of the kind it was trained on"
        )
    return (contract.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def apply_contract(raw: Sequence[Array] | Array, contract: InputContract, dtype: str = "float32") -> Array:
    """Raw samples (first axis = sample) as one model-ready batch of ``dtype``.

    Raises:
        DataError: samples that do not fit the contract.
    """
    if contract.kind == "image":
        pixels = _as_images(raw, contract)
        factor, offset = affine(contract, pixels.shape[-1])
        batch = pixels.astype(np.float32) * factor + offset
        if contract.layout == "NCHW":
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return batch.astype(dtype, copy=False)
    stacked = np.stack([np.asarray(row) for row in raw])
    if contract.kind == "table":
        if stacked.ndim != 2:
            raise DataError(f"a table has rows of numbers, got samples of shape {stacked.shape[1:]}")
        factor, offset = affine(contract, stacked.shape[-1])
        return (stacked.astype(np.float32) * factor + offset).astype(dtype, copy=False)
    return stacked.astype(dtype, copy=False) if _harmless(stacked.dtype, dtype) else stacked


def _harmless(found: np.dtype[np.generic], wanted: str) -> bool:
    """Whether a cast keeps the kind (float to float, integer to integer); others are left for the runner to refuse."""
    return found.kind == np.dtype(wanted).kind or {found.kind, np.dtype(wanted).kind} <= {"i", "u"}


def _as_images(raw: Sequence[Array] | Array, contract: InputContract) -> Array:
    """uint8 (N, height, width, channels) of the contract's size and channels."""
    if isinstance(raw, np.ndarray) and raw.ndim == 4 and _fits(raw[0], contract):
        return raw
    return np.stack([_fit_image(np.asarray(image), contract) for image in raw])


def _fits(image: Array, contract: InputContract) -> bool:
    return (contract.size in (None, image.shape[:2])) and contract.channels in (0, image.shape[-1])


def _fit_image(image: Array, contract: InputContract) -> Array:
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise DataError(f"an image is height x width x 1 or 3, got shape {image.shape}")
    if _fits(image, contract):
        return image
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"the image is {image.shape}, the model takes {contract.size} x {contract.channels}, and resizing needs "
            "Pillow: pip install pillow"
        ) from error
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if contract.channels in (1, 3):
        picture = picture.convert("L" if contract.channels == 1 else "RGB")
    if contract.size is not None and picture.size != contract.size[::-1]:
        picture = picture.resize(contract.size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def guess_contract(spec: TensorSpec, kind: str) -> InputContract:
    """What a file without a card probably wants: values 0..1, the layout read off the shape."""
    if kind != "image" or len(spec.shape) != 4:
        return InputContract("table" if kind == "table" else "array")
    shape = spec.shape
    nhwc = shape[3] in (1, 3) and shape[1] not in (1, 3)
    height, width, channels = (shape[1], shape[2], shape[3]) if nhwc else (shape[2], shape[3], shape[1])
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    scale = 1 / 255 if np.dtype(spec.dtype).kind == "f" else 1.0
    return InputContract("image", "NHWC" if nhwc else "NCHW", size, channels if isinstance(channels, int) else 0, scale)


def _bind(dataset: Dataset, signature: Signature, contract: Mapping[str, InputContract]) -> list[_Bound]:
    """Which array of the data set feeds which input, and how."""
    bound = []
    for spec in signature.inputs:
        key = _key_for(dataset, spec.name, len(signature.inputs))
        rule = contract.get(spec.name)
        if dataset.kind == "array":
            rule = InputContract("array")
        elif rule is None:
            rule = guess_contract(spec, dataset.kind)
            log.info("%s: no I/O contract in the file; assuming %s", spec.name, rule)
        elif rule.kind not in ("array", dataset.kind):
            raise DataError(
                f"{dataset.label} holds {dataset.kind} samples, the model's input {spec.name!r} takes {rule.kind}"
            )
        bound.append(_Bound(spec, rule, dataset.arrays[key]))
    return bound


def _key_for(dataset: Dataset, name: str, inputs: int) -> str:
    if name in dataset.arrays:
        return name
    if inputs == 1 and len(dataset.arrays) == 1:
        only = next(iter(dataset.arrays))
        if dataset.kind != "array" or only in ("inputs", "input", "x", "arr_0"):
            return only
    if inputs == 1 and "inputs" in dataset.arrays:
        return "inputs"
    raise DataError(
        f"{dataset.name} has no array for the model's input {name!r}; it has: {', '.join(dataset.arrays)}. Name the "
        "arrays like the model's inputs"
    )


class _Bound:
    """One input of the model with the samples that feed it."""

    def __init__(self, spec: TensorSpec, contract: InputContract, samples: Sequence[Array] | Array) -> None:
        self.spec, self.contract, self.samples = spec, contract, samples

    def batch(self, start: int, stop: int) -> Array:
        if isinstance(self.samples, np.ndarray):
            raw: Sequence[Array] | Array = self.samples[start:stop]
        else:
            raw = [self.samples[k] for k in range(start, stop)]
        dtype = self.spec.dtype if np.dtype(self.spec.dtype).kind == "f" or self.contract.kind == "array" else "float32"
        return apply_contract(raw, self.contract, dtype)


def batches(
    dataset: Dataset,
    signature: Signature,
    contract: Mapping[str, InputContract],
    *,
    batch: int = 1,
    limit: int | None = None,
) -> Iterator[tuple[Feed, Array | None]]:
    """Model-ready feeds of ``batch`` samples with their labels, in order; the last one may be shorter.

    Raises:
        DataError: the data set does not fit the model's inputs, or a sample cannot be read.
    """
    bound = _bind(dataset, signature, contract)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        labels = None if dataset.labels is None else dataset.labels[start:stop]
        yield {item.spec.name: item.batch(start, stop) for item in bound}, labels


def feeds(
    dataset: Dataset,
    signature: Signature,
    contract: Mapping[str, InputContract],
    *,
    batch: int = 1,
    limit: int | None = None,
) -> Iterator[Feed]:
    """:func:`batches` without the labels."""
    for feed, _ in batches(dataset, signature, contract, batch=batch, limit=limit):
        yield feed


def sample_feed(given: str, signature: Signature, contract: Mapping[str, InputContract]) -> Feed:
    """One user input as a feed of batch 1: an image, an .npz or .npy of model-ready arrays, or a .csv with one row.

    Raises:
        DataError: the file cannot be read, or does not fit the model's inputs.
    """
    path = Path(given)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        raw: Dataset = Dataset(given, "all", "image", {"image": decode(path)[None]})
    elif suffix == ".npz":
        return _named_arrays(path, read_npz(path), signature)
    elif suffix == ".npy":
        return _named_arrays(path, {"inputs": _read_npy(path)}, signature)
    elif suffix == ".csv":
        raw = Dataset(given, "all", "table", {"table": _first_row(path)[None]})
    else:
        known = ", ".join((*SUFFIXES, ".npz", ".npy", ".csv"))
        raise DataError(f"{given} is of no kind that can be read; an input is a file ending in one of {known}")
    return next(feeds(raw, signature, contract))


def _read_npy(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give the path of an .npy file") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as .npy: {error}") from error
    return np.asarray(array)


def _named_arrays(path: Path, arrays: dict[str, Array], signature: Signature) -> Feed:
    """The arrays of a file by input name; an array without the batch axis gets one."""
    arrays.pop("labels", None)
    dataset = Dataset(str(path), "all", "array", arrays)
    feed = {}
    for spec in signature.inputs:
        array = arrays[_key_for(dataset, spec.name, len(signature.inputs))]
        if array.ndim == len(spec.shape) - 1:
            array = array[None]
        feed[spec.name] = array.astype(spec.dtype) if _harmless(array.dtype, spec.dtype) else array
    return feed


def _first_row(path: Path) -> Array:
    try:
        with open(path, newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    for row in rows[:2]:  # the first row may be a header
        try:
            return np.array([float(cell) for cell in row], np.float32)
        except ValueError:
            continue
    raise DataError(f"{path} holds no row of numbers in its first two lines")


def as_layout(contract: InputContract, layout: str) -> InputContract:
    """The same contract with another image layout."""
    return replace(contract, layout=layout) if contract.kind == "image" else contract
