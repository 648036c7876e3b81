"""``npz:FILE``: arrays named like the model's inputs (or ``inputs``), plus ``labels``; fed as they are.

The headers are checked before anything is allocated: numpy itself believes what they say.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from edgekit.data.dataset import Dataset, choose_split
from edgekit.errors import DataError
from edgekit.inputs import open_regular
from edgekit.limits import check
from edgekit.reading import reading
from edgekit.types import Array
from edgekit.unpacking import check_zip

_NPY, _ZIP = b"\x93NUMPY", b"PK"
_SUFFIX = ".npy"
_CHUNK = 1 << 20


def read_npz(file: Path) -> dict[str, Array]:
    """The arrays of an .npz file, by name. Object arrays are refused: they are pickles.

    Raises:
        DataError: missing, not an .npz file, cut short, or holding objects.
        LimitError: larger than is allowed.
    """
    with open_regular(file, DataError, "an .npz file") as opened, reading(file, DataError, ".npz"):
        start = opened.read(len(_NPY))
        if start == _NPY:
            raise DataError(f"{file} holds one bare array; an .npz with named arrays is needed (numpy.savez)")
        if not start.startswith(_ZIP):
            raise DataError(f"{file} cannot be read as .npz: it is not a zip file; write it with numpy.savez")
        packed = opened.seek(0, 2)
        with zipfile.ZipFile(opened) as archive:
            members = archive.infolist()
            check_zip(members, packed, "ARRAY_BYTES", DataError, file)
            arrays: dict[str, Array] = {}
            for member in members:
                name = member.filename.removesuffix(_SUFFIX)
                if name == member.filename or name in arrays:
                    what = "is not an array (.npy)" if name == member.filename else "stands there twice"
                    raise DataError(f"{file} cannot be read as .npz: {member.filename!r} {what}")
                with archive.open(member) as stream:
                    arrays[name] = _array(stream, member.file_size, f"{file}, array {name!r}")
            return arrays


def read_npy(file: Path) -> Array:
    """The array of an .npy file.

    Raises:
        DataError, LimitError: see :func:`read_npz`.
    """
    with open_regular(file, DataError, "an .npy file") as opened, reading(file, DataError, ".npy"):
        size = opened.seek(0, 2)
        opened.seek(0)
        return _array(opened, size, file)


def _array(stream: IO[bytes], size: int, subject: object) -> Array:
    """The array in a stream of ``size`` bytes; raises DataError, LimitError and what numpy raises over its header."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{subject}: version {version} of .npy holds fields with names; give one array an input")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(f"{subject} holds Python objects, which are pickles and can run code; save plain numbers")
    if dtype.fields or dtype.subdtype:
        raise DataError(f"{subject} is of the type {dtype}; only plain numbers are read: save each field as an array")
    if min(shape, default=0) < 0:
        raise DataError(f"{subject} has the shape {shape}; sizes are 0 or more")
    wanted = math.prod(shape) * dtype.itemsize
    check("ARRAY_BYTES", wanted, subject)
    if stream.tell() + wanted > size:
        raise DataError(
            f"{subject} is cut short: {wanted:,} bytes of values were expected, {size - stream.tell():,} are there"
        )
    values, filled = np.empty(wanted, np.uint8), 0
    while filled < wanted:
        data = stream.read(min(wanted - filled, _CHUNK))
        if not data:
            raise DataError(f"{subject} is cut short: {wanted:,} bytes of values were expected, {filled:,} are there")
        values[filled : filled + len(data)] = np.frombuffer(data, np.uint8)
        filled += len(data)
    array: Array = values.view(dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def open_npz(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``npz:FILE``.

    Raises:
        DataError: see :func:`read_npz`; or arrays of different length, labels that are not class indices.
    """
    arrays = read_npz(Path(argument))
    labels = arrays.pop("labels", None)
    if not arrays:
        raise DataError(f"{argument} holds no input array; it needs one named like each model input, or 'inputs'")
    lengths = {key: len(value) if value.ndim else -1 for key, value in arrays.items()}
    if labels is not None:
        lengths["labels"] = len(labels) if labels.ndim else -1
    if len(set(lengths.values())) != 1 or -1 in lengths.values():
        listed = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise DataError(
            f"{argument}: the arrays must have the same number of samples on their first axis, got {listed}"
        )
    classes: tuple[str, ...] = ()
    if labels is not None:
        labels = _class_indices(argument, labels)
        classes = tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    whole = Dataset(name, "all", "array", arrays, labels, classes)
    return choose_split(whole, split, default_split)


def save_npz(file: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays by name. numpy.savez takes names as keywords, of which it has some itself: ``file``."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}{_SUFFIX}", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)


def _class_indices(argument: str, labels: Array) -> Array:
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise DataError(
            f"{argument}: labels must be one class index a sample (integers, 1-D), got {labels.dtype} with shape "
            f"{labels.shape}"
        )
    if labels.size and int(labels.min()) < 0:
        raise DataError(f"{argument}: labels must be 0 or more, got {int(labels.min())}")
    check("CLASSES", int(labels.max(initial=0)) + 1, f"{argument}: the labels")
    return labels.astype(np.int64)
