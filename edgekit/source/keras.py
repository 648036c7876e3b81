"""``model.keras``: a Keras 3 model on the torch backend, which is a torch module and goes the same way as the rest.

Keras settles its backend when it is imported, so edgekit imports it with torch; where it was imported with another one
in this process, the model cannot be loaded here. Lambdas inside a file are code and are not loaded (Keras' safe mode).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.artifact import sha256_file
from edgekit.errors import RuntimeMissingError, SourceError, UnsupportedError
from edgekit.inputs import require_regular
from edgekit.leftovers import scratch_folder
from edgekit.reading import reading
from edgekit.runtime.native_stderr import filter_stderr
from edgekit.source.assemble import assemble
from edgekit.source.base import Source
from edgekit.types import Network
from edgekit.unpacking import check_zip

if TYPE_CHECKING:
    import torch

BACKEND = {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cpu"}


class Keras(Source):
    form: ClassVar[str] = "a .keras file"
    inert: ClassVar[bool] = True

    def claims(self, text: str) -> bool:
        return Path(text).suffix.lower() == ".keras"

    def resolve(self, text: str) -> Network:
        path = Path(text)
        model = _loaded(path)
        config = {"factory": text, "sha256": sha256_file(path), "keras": sys.modules["keras"].__version__}
        indices = min((layer.input_dim for layer in model._flatten_layers() if hasattr(layer, "input_dim")), default=2)
        examples = [_example(path, tensor, int(indices)) for tensor in model.inputs]
        names = [str(tensor.name) for tensor in model.inputs]
        return assemble(_as_module(model), tuple(examples), {}, path.stem, config, text, names)

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        return _as_module(_loaded(Path(text)))


def _loaded(path: Path) -> Any:
    _check(path)
    keras = _package(path)
    try:
        with scratch_folder() as folder, _temporary_files_in(folder):
            model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises ValueError, TypeError, KeyError and h5py's OSError
        raise SourceError(
            f"{path}: keras {keras.__version__} cannot load it: {' '.join(str(error).split())[:300]}. For layers of "
            "your own write a factory that imports them and loads the model: file.py:factory"
        ) from error
    if not getattr(model, "inputs", None):
        raise SourceError(
            f"{path}: the model was saved before it was built, so its inputs are unknown; call it once, and save it "
            "again"
        )
    return model


def _check(path: Path) -> None:
    require_regular(path, SourceError, "a .keras file", "MODEL_BYTES")
    with reading(path, SourceError, ".keras", advice="save or copy it again"), zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            raise SourceError(f"{path} is a zip archive without a config.json: no model that Keras 3 saved")
        check_zip(archive.infolist(), path.stat().st_size, "ARCHIVE_BYTES", SourceError, path)


def _package(path: Path) -> Any:
    if importlib.util.find_spec("keras") is None:
        raise RuntimeMissingError(
            f"{path} needs the package keras, which is not installed: pip install 'edgekit[keras]'"
        )
    if "keras" not in sys.modules:
        with _environment(), filter_stderr():  # it imports TensorFlow where that is installed, which prints
            importlib.import_module("keras")
    keras = sys.modules["keras"]
    if keras.backend.backend() != "torch":
        raise UnsupportedError(
            f"{path}: keras runs on {keras.backend.backend()} in this process, and edgekit needs it on torch; set "
            "KERAS_BACKEND=torch before keras is imported, or export the model in a process of its own: "
            f"edgekit export {path}. A SavedModel folder (model.export) needs neither"
        )
    return keras


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Keras unpacks a file's assets to where it leaves them if the file is damaged."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _environment() -> Iterator[None]:
    before = {key: os.environ.get(key) for key in BACKEND}
    os.environ.update(BACKEND)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _as_module(model: Any) -> torch.nn.Module:
    """``model`` called with its inputs in order, in inference mode; its outputs by their names where it has several."""
    import torch

    class KerasModule(torch.nn.Module):
        is_adapter = True

        def __init__(self) -> None:
            super().__init__()
            self.module = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            structure = model._inputs_struct if hasattr(model, "_inputs_struct") else model.inputs[0]
            given = sys.modules["keras"].tree.pack_sequence_as(structure, list(inputs))
            return self.module(given, training=False)

    return KerasModule().eval()


def _example(path: Path, tensor: Any, indices: int) -> torch.Tensor:
    """Zeros; integers count up to ``indices``, the rows of the smallest embedding, which tells a proof their range."""
    import torch

    zeros = torch.zeros(_shape(path, tensor), dtype=_dtype(path, tensor))
    if zeros.is_floating_point() or zeros.dtype is torch.bool or not zeros.numel():
        return zeros
    counted = torch.arange(zeros.numel()) % indices
    counted[0] = indices - 1
    return counted.reshape(zeros.shape).to(zeros.dtype)


def _shape(path: Path, tensor: Any) -> tuple[int, ...]:
    """The shape of one sample, with a batch of 1."""
    sizes = tuple(tensor.shape)
    open_axes = [axis for axis, size in enumerate(sizes) if size is None and axis]
    if open_axes:
        raise SourceError(
            f"{path}: the input {tensor.name!r} has free axes besides the batch: {sizes}; write a factory that loads "
            "the model and gives example inputs: file.py:factory"
        )
    return (1, *sizes[1:])


def _dtype(path: Path, tensor: Any) -> torch.dtype:
    import torch

    found = getattr(torch, str(tensor.dtype), None)
    if not isinstance(found, torch.dtype):
        raise SourceError(f"{path}: the input {tensor.name!r} is {tensor.dtype}; edgekit takes tensors of numbers only")
    return found
