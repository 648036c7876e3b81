"""What a run depends on, as hashes of contents: networks, data sets, files; never names or times."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import card_to_json, open_artifact, sha256_file, sha256_model
from edgekit.data.cache import NotHereError, without_downloads
from edgekit.data.dataset import Dataset, open_data, splits_of
from edgekit.errors import DataError, EdgekitError, FactoryNeededError
from edgekit.types import Card, Format, Network

log = logging.getLogger("edgekit")
CHECKPOINT = ".safetensors"


class Contents:
    """Hashes, each taken once; what cannot be read raises the error of the command that would take it.

    ``runs``: the recipe is being run, so the user's own code may be. It never is to check or to show one, for which
    nothing is downloaded: what is not here has an empty hash.
    """

    def __init__(self, *, runs: bool = False) -> None:
        self.runs = runs
        self._known: dict[tuple[str, str], str] = {}

    def source(self, text: str) -> str:
        """Of a SOURCE: the file or folder it is, of a factory the file of its code; else its weights and its card.

        Raises:
            SourceError, ModelError, UnsupportedError: as :func:`edgekit.source.resolve`; of a factory what can be said
                without running it, and the rest where the recipe runs.
        """
        found = self._once("source", text, _source)
        if self.runs and is_code(text):
            self.weights(text)
        return found

    def weights(self, text: str) -> str:
        """Of the weights and the card of the network that a factory makes, which this runs.

        Raises:
            SourceError: as :func:`edgekit.source.resolve`.
        """
        return self._once("weights", text, _weights)

    def code_needed(self, text: str) -> FactoryNeededError | None:
        """Why a SOURCE is not opened unless its code is named; None where it is, or is refused for another reason."""
        from edgekit.source import resolve

        if Path(text).suffix.lower() != CHECKPOINT:
            return None
        try:
            with self._access():
                resolve(text)
        except FactoryNeededError as error:
            return error
        except EdgekitError as error:
            log.debug("%s is refused on its own: %s", text, error)
        return None

    def code(self, text: str) -> str:
        """Of the file of a factory, which is not run.

        Raises:
            SourceError: there is no such file or function.
        """
        from edgekit.source.inspection import check_factory

        return self._once("code", text, check_factory)

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
        """Whether a SOURCE or model file carries ranges that quantization-aware training learned; False for one that
        cannot be opened, which is refused on its own."""
        try:
            with self._access():
                card = _card_of(text)
        except EdgekitError as error:
            log.debug("%s is not asked for ranges: %s", text, error)
            return False
        return card is not None and card.ranges is not None

    def file(self, text: str) -> str:
        return self._once("file", text, sha256_file)

    def _access(self) -> AbstractContextManager[None]:
        return nullcontext() if self.runs else without_downloads()

    def _taken(self, text: str, take: Callable[[str], str]) -> str:
        try:
            with self._access():
                return take(text)
        except NotHereError as error:
            log.info("%s is not checked: %s", text, error)
            return ""

    def _once(self, kind: str, text: str, take: Any) -> str:
        if (kind, text) not in self._known:
            self._known[kind, text] = self._taken(text, take)
        return self._known[kind, text]


def is_model(text: str) -> bool:
    """Whether ``text`` spells a finished model file, not a network."""
    return Path(text).suffix.lower() in (f".{Format.ONNX}", f".{Format.TFLITE}")


def is_code(text: str) -> bool:
    """Whether a SOURCE is the user's own code."""
    from edgekit.source import find
    from edgekit.source.factory import Factory

    return isinstance(find(text)[0], Factory)


def _card_of(text: str) -> Card | None:
    """The card of a SOURCE or model file, None of the user's own code, which is not run."""
    from edgekit.models.checkpoint import read_checkpoint
    from edgekit.source import resolve

    if is_model(text):
        return open_artifact(text).card
    if Path(text).suffix.lower() == CHECKPOINT:
        return read_checkpoint(Path(text))[1]
    return None if is_code(text) else resolve(text).card


def _source(text: str) -> str:
    from edgekit.models.checkpoint import read_checkpoint
    from edgekit.source import resolve
    from edgekit.source.inspection import check_factory

    if is_code(text):
        return check_factory(text)
    try:
        network = resolve(text)
    except FactoryNeededError:  # each step that takes it has to name the code
        read_checkpoint(Path(text))
        return sha256_file(text)
    return sha256_file(text) if Path(text).exists() else _of_network(network)


def _weights(text: str) -> str:
    from edgekit.source import resolve

    return _of_network(resolve(text))


def _of_network(network: Network) -> str:
    from edgekit.models.checkpoint import weights_sha256

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
    raise DataError(f"{argument} names a file or folder that does not exist")


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
