"""What a run depends on, as hashes of contents: networks, data sets, files; never names or times."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import card_to_json, open_artifact, sha256_file, sha256_model
from edgekit.data.dataset import Dataset, open_data, splits_of
from edgekit.errors import DataError, EdgekitError
from edgekit.types import Format

log = logging.getLogger("edgekit")


class Contents:
    """Hashes, each taken once; what cannot be had raises the error of the command that would take it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def source(self, text: str) -> str:
        """Of a SOURCE: the file or folder it is; else its weights and its card (with the hash of a factory's file).

        Raises:
            SourceError, ModelError, UnsupportedError: as :func:`edgekit.source.resolve`.
        """
        return self._once("source", text, _source)

    def model(self, text: str) -> str:
        """Of a finished model file.

        Raises:
            ModelError: as :func:`edgekit.artifact.open_artifact`.
        """
        return self._once("model", text, lambda path: sha256_model(open_artifact(path).path))

    def data(self, text: str) -> str:
        """Of the whole data set, labels and every split of it; of the file or folder that ``KIND:PATH`` names.

        Raises:
            DataError, UsageError: as :func:`edgekit.data.dataset.open_data`.
        """
        return self._once("data", text, _data)

    def has_learned_ranges(self, text: str) -> bool:
        """Whether a SOURCE or model file carries ranges that quantization-aware training learnt; False for one that
        cannot be opened, which is refused on its own."""
        from edgekit.source import resolve

        try:
            card = open_artifact(text).card if is_model(text) else resolve(text).card
        except EdgekitError as error:
            log.debug("%s is not asked for ranges: %s", text, error)
            return False
        return card is not None and card.ranges is not None

    def file(self, text: str) -> str:
        return self._once("file", text, sha256_file)

    def _once(self, kind: str, text: str, take: Any) -> str:
        if (kind, text) not in self._known:
            self._known[kind, text] = take(text)
        return self._known[kind, text]


def is_model(text: str) -> bool:
    """Whether ``text`` spells a finished model file, not a network."""
    return Path(text).suffix.lower() in (f".{Format.ONNX}", f".{Format.TFLITE}")


def _source(text: str) -> str:
    from edgekit.models.checkpoint import weights_sha256
    from edgekit.source import resolve

    network = resolve(text)
    if Path(text).exists():
        return sha256_file(text)
    card = json.dumps(card_to_json(network.card), sort_keys=True, default=str)
    return hashlib.sha256(f"{card}\n{weights_sha256(network.module.state_dict())}".encode()).hexdigest()


def _data(text: str) -> str:
    opened = open_data(text)
    name, argument = opened.name, opened.name.partition(":")[2]
    if argument:
        return sha256_file(_path_in(argument))
    splits = splits_of(name)
    digest = hashlib.sha256()
    for split in ["all"] if "all" in splits else splits:
        for part in _parts_of(open_data(f"{name}@{split}")):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _path_in(argument: str) -> Path:
    """The file in ``FILE.csv,target=price``."""
    words = argument.split(",")
    for count in range(len(words), 0, -1):
        path = Path(",".join(words[:count]))
        if path.exists():
            return path
    raise DataError(f"{argument} names no file or folder that is there")


def _parts_of(data: Dataset) -> Iterator[bytes]:
    yield repr((data.kind, data.classes, data.columns, sorted(data.arrays))).encode()
    for samples in (*(data.arrays[name] for name in sorted(data.arrays)), data.labels, data.targets):
        yield from _bytes_of(samples)


def _bytes_of(value: Any) -> Iterator[bytes]:
    if value is None or isinstance(value, str | int | float):
        yield repr(value).encode()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield np.asarray(value).tobytes()
    elif is_dataclass(value):
        for one in fields(value):
            if one.name != "origin":  # where it lies on this machine
                yield from _bytes_of(getattr(value, one.name))
    else:
        for item in value:
            yield from _bytes_of(item)
