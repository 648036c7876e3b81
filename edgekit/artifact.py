"""Model files: open, check, read and write the card inside them.

Every format is handled as bytes, without onnx, TensorFlow or torch, so that a board can do all of it:
ONNX ``metadata_props`` (:mod:`edgekit.protobuf_reader`), a TFLite metadata buffer (:mod:`edgekit.flatbuffer_reader`), a
member ``extra/edgekit`` of a ``.pt2`` archive (:mod:`edgekit.pt2_reader`), named data of an ExecuTorch program
(:mod:`edgekit.pte_reader`), a file ``assets.extra/edgekit.json`` of a
SavedModel folder.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from edgekit import flatbuffer_reader, protobuf_reader, pt2_reader, pte_reader, tflite_metadata
from edgekit.errors import InputError, LimitError, ModelError, UsageError
from edgekit.inputs import open_regular, read_regular, require_regular_inside
from edgekit.limits import check
from edgekit.model_metadata import card_from_json, card_to_json, decode_card, encode_card, library_versions
from edgekit.outputs import publishing
from edgekit.reading import reading
from edgekit.tables import index_bounds
from edgekit.types import Artifact, Card, Format, InputSpec

__all__ = [
    "CARD_KEY",
    "card_from_json",
    "card_to_json",
    "contract_of",
    "is_saved_model",
    "library_versions",
    "onnx_external_data",
    "onnx_parts",
    "open_artifact",
    "publishing",
    "read_card",
    "require_beside",
    "sha256_file",
    "sha256_model",
    "size_bytes",
    "write_card",
]

CARD_KEY = "edgekit"
FOLDER_CARD = Path("assets.extra") / f"{CARD_KEY}.json"
"""Where the card of a SavedModel lies: TensorFlow keeps that folder for others."""
GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_SUFFIXES = {".onnx": Format.ONNX, ".tflite": Format.TFLITE, ".pt2": Format.PT2, ".pte": Format.PTE}
_WANTED = "a .onnx, .tflite, .pt2 or .pte file"
_PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


def open_artifact(path: str | Path) -> Artifact:
    """The model file at ``path``, checked to be whole and of the format its suffix says, with its card if it has one.

    Raises:
        ModelError: missing, empty, cut short, damaged, of another format than its suffix says, or a pickle.
    """
    file = Path(path)
    if file.is_dir():
        return _open_folder(file)
    wanted, data = _read(file)
    found = _sniff(data)
    if found is not None and found != wanted:
        raise ModelError(
            f"{file} is named .{wanted} but holds {_describe(found)}; rename it, or export it again with --to {wanted}"
        )
    try:
        if wanted is Format.ONNX:
            protobuf_reader.check(data)
        elif wanted is Format.TFLITE:
            flatbuffer_reader.check(data)
        elif wanted is Format.PTE:
            pte_reader.check(data)
        elif found is not Format.PT2:
            raise ModelError("not a .pt2 archive (torch.export.save writes one): it is not a zip file, or cut short")
        return Artifact(file, wanted, _card_in(wanted, data))
    except ModelError as error:
        raise ModelError(f"{file}: {error}; export or copy it again") from error
    except LimitError as error:
        raise LimitError(f"{file}: {error}") from error


def read_card(path: str | Path) -> Card | None:
    """The card inside a model file, or None for a file made elsewhere; raises like :func:`open_artifact`."""
    return open_artifact(path).card


def contract_of(artifact: Artifact) -> dict[str, InputSpec]:
    """How raw samples become the inputs of a file: what its card says, and for integers that are looked up in a
    constant table how many rows that has (``below``).

    Raises:
        ModelError: the file is damaged.
    """
    contract = dict(artifact.card.contract) if artifact.card is not None else {}
    with reading(artifact.path, ModelError, f"a graph of {artifact.format}"):
        bounds = {} if artifact.path.is_dir() else index_bounds(artifact.path.read_bytes(), artifact.format)
    for name, rows in bounds.items():
        rule = contract.get(name, InputSpec())
        if rule.kind == "array" and "most" not in rule.params:
            contract[name] = replace(rule, params={**rule.params, "below": rows})
    return contract


def write_card(source: Path, card: Card, target: Path | None = None) -> Artifact:
    """Writes ``source`` with ``card`` in it (in place of the one it has) as ``target``, or over itself; atomically.

    Raises:
        ModelError: ``source`` is not a model file.
        StorageError, UsageError: the target cannot be written.
    """
    place = target or source
    artifact = open_artifact(source)
    require_beside(source, place)
    payload = encode_card(card)
    if artifact.format is Format.SAVED_MODEL:
        if place != source:
            raise UsageError(f"{source} is a folder: its card is written into it, not to {place}")
        with publishing(source / FOLDER_CARD) as temporary:
            temporary.write_bytes(payload)
        return Artifact(source, artifact.format, card)
    with publishing(place) as temporary:
        if artifact.format is Format.PT2:
            pt2_reader.write_metadata(source, temporary, payload)
        elif artifact.format is Format.ONNX:
            temporary.write_bytes(protobuf_reader.with_metadata(_read(source)[1], CARD_KEY, payload))
        elif artifact.format is Format.PTE:
            temporary.write_bytes(pte_reader.with_metadata(_read(source)[1], CARD_KEY, payload))
        else:
            temporary.write_bytes(_tflite_with_card(_read(source)[1], card, payload))
    return Artifact(place, artifact.format, card)


def _tflite_with_card(data: bytes, card: Card, payload: bytes) -> bytes:
    """A TFLite file with its card, and what the card says in the standard schema that other tools read; where the file
    came with such metadata from elsewhere, they stay."""
    original = flatbuffer_reader.without_prefix(data)
    sides = [[*flatbuffer_reader.tensor_names(original, side).values()] for side in ("inputs", "outputs")]
    foreign = tflite_metadata.NAME in flatbuffer_reader.metadata(original)
    standard = None if foreign else tflite_metadata.standard_metadata(card, *sides)
    if standard is None:
        return flatbuffer_reader.with_metadata(original, {CARD_KEY: payload})
    entries = {CARD_KEY: payload, tflite_metadata.NAME: standard.metadata}
    return flatbuffer_reader.with_metadata(original, entries, standard.archive())


def require_beside(source: Path, place: Path) -> None:
    """Refuses to copy an ONNX file whose weights lie in others to another folder than theirs.

    Raises:
        UsageError: ``place`` is in another folder than ``source``, which is such a file.
    """
    if place.resolve().parent != source.resolve().parent and _parts(source):
        raise UsageError(
            f"{source} keeps its weights in {', '.join(_parts(source))} beside it: give a place in the folder "
            f"{source.parent}, or export it again as one self-contained file"
        )


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of a folder, over the names and hashes of its files in order.

    Raises:
        InputError: it is not there, cannot be read, or is neither a regular file nor a folder.
    """
    digest = hashlib.sha256()
    if Path(path).is_dir():
        for file in _files_in(Path(path)):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
        return digest.hexdigest()
    with open_regular(path, InputError, "a file") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_model(path: str | Path) -> str:
    """SHA-256 of a model as it is shipped: of its file or folder (:func:`sha256_file`); of an ONNX file whose weights
    lie in others, over the names and hashes of all of them in order, as of a folder.

    Raises:
        ModelError: as :func:`onnx_parts`.
    """
    parts = _parts(Path(path))
    if not parts:
        return sha256_file(path)
    digest = hashlib.sha256()
    for name, file in sorted({Path(path).name: Path(path), **parts}.items()):
        digest.update(f"{name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def size_bytes(path: str | Path) -> int:
    """Bytes of a model as it is shipped: of its file, of all files of a folder, of an ONNX file and of those that hold
    its weights.

    Raises:
        ModelError: as :func:`onnx_parts`.
    """
    place = Path(path)
    files = _files_in(place) if place.is_dir() else [place, *_parts(place).values()]
    return sum(file.stat().st_size for file in files)


def _parts(path: Path) -> dict[str, Path]:
    return onnx_parts(path) if path.suffix.lower() == ".onnx" and path.is_file() else {}


def _files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def is_saved_model(path: str | Path) -> bool:
    """Whether ``path`` is a folder that TensorFlow saved a model in."""
    return any((Path(path) / name).is_file() for name in GRAPHS)


def _open_folder(folder: Path) -> Artifact:
    if not is_saved_model(folder):
        raise ModelError(
            f"{folder} is a folder, but no SavedModel: it has no {GRAPHS[0]}; give the folder that "
            f"tf.saved_model.save or model.export wrote, or {_WANTED}"
        )
    empty = [name for name in GRAPHS if (folder / name).is_file() and not (folder / name).stat().st_size]
    if empty:
        raise ModelError(f"{folder}: {empty[0]} is empty (0 bytes); save or copy it again")
    require_regular_inside(folder, ModelError)
    card = folder / FOLDER_CARD
    try:
        payload = read_regular(card, ModelError, "a card", "CARD_BYTES") if card.exists() else None
        return Artifact(folder, Format.SAVED_MODEL, None if payload is None else decode_card(payload))
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    except LimitError as error:
        raise LimitError(f"{folder}: {error}") from error


def onnx_external_data(path: str | Path) -> list[str]:
    """Where an ONNX file says its external tensors lie, as written in the file."""
    return protobuf_reader.external_locations(read_regular(path, ModelError, _WANTED, "MODEL_BYTES"))


def onnx_parts(path: str | Path) -> dict[str, Path]:
    """The files that hold the weights of an ONNX file, by the names it gives them; empty where it holds them itself.

    Raises:
        ModelError: one of them lies outside the file's own folder, or is not there.
    """
    file = Path(path)
    folder, parts = file.parent.resolve(), {}
    for location in onnx_external_data(file):
        target = (folder / location).resolve()
        if Path(location).is_absolute() or not target.is_relative_to(folder):
            raise ModelError(
                f"{path}: its weights are said to lie in {location!r}, outside its own folder, which edgekit "
                "does not read; export it again as one self-contained file"
            )
        if not target.is_file():
            raise ModelError(
                f"{path}: its weights should lie in {target}, and no such file is there; copy it beside the "
                "model, or export again as one self-contained file"
            )
        parts[location] = target
    return parts


def _read(file: Path) -> tuple[Format, bytes]:
    """What the suffix says the file is, and its bytes; refused by kind, then suffix, first bytes, size."""
    with open_regular(file, ModelError, _WANTED) as opened:
        head = opened.read(2)
        if not head:
            raise ModelError(f"{file} is empty (0 bytes); export or copy it again")
        wanted = _format_of(file, head)
        check("MODEL_BYTES", opened.seek(0, os.SEEK_END), file)
        opened.seek(0)
        return wanted, opened.read()


def _format_of(file: Path, head: bytes) -> Format:
    suffix = file.suffix.lower()
    if suffix in _PICKLE_SUFFIXES or head in (b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise ModelError(
            f"{file} is a pickle, which can run any code when it is opened, so edgekit does not open it. Load it where "
            "it was made and write it with torch.export.save(...) as .pt2, or its weights with "
            "safetensors.torch.save_file and name the network as file.py:factory"
        )
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise ModelError(f"{file} has the suffix {suffix or '(none)'!r}; a model file ends in one of {known}")
    return _SUFFIXES[suffix]


def _sniff(data: bytes) -> Format | None:
    if data[4:8] == flatbuffer_reader.IDENTIFIER:
        return Format.TFLITE
    if pte_reader.is_program(data):
        return Format.PTE
    if data[:4] == b"PK\x03\x04":
        return Format.PT2
    try:
        protobuf_reader.check(data)
    except ModelError:
        return None
    return Format.ONNX


def _describe(found: Format) -> str:
    return {
        Format.ONNX: "an ONNX model", Format.TFLITE: "a TFLite model", Format.PT2: "a zip archive",
        Format.PTE: "an ExecuTorch program",
    }[found]  # fmt: skip


def _card_in(format_: Format, data: bytes) -> Card | None:
    wire = {
        Format.ONNX: protobuf_reader, Format.TFLITE: flatbuffer_reader, Format.PT2: pt2_reader, Format.PTE: pte_reader,
    }[format_]  # fmt: skip
    payload = wire.metadata(data).get(CARD_KEY)
    return None if payload is None else decode_card(payload)
