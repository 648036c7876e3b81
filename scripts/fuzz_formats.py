"""Mutations of models, arrays, sounds and images for scripts/fuzz, and which file is changed by which of them."""

from __future__ import annotations

import functools
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from random import Random
from typing import Any

from fuzz_archives import BOMB_BYTES, Member, mutate_packed, mutate_tar, mutate_zip, read_zip, write_zip
from fuzz_bytes import (
    EDGES,
    HOSTILE_TEXTS,
    MOST_BYTES,
    Mutator,
    Pairs,
    dumped,
    mutate_bytes,
    mutate_json,
    mutate_json_lines,
    mutate_table,
    mutate_toml,
)

# ---------------------------------------------------------------- protobuf (ONNX, SavedModel)

Field = tuple[int, int, Any]
"""Number, wire type, and an int (wire 0) or bytes."""


def fields_of(data: bytes) -> list[Field] | None:
    """The fields of a protobuf message, None if it is not a message."""
    found: list[Field] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if at < 0 or not number:
            return None
        if wire == 0:
            value: Any
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            return None
        if at < 0 or at > len(data):
            return None
        found.append((number, wire, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and the place behind it, -1 if there is no number."""
    value = shift = 0
    while 0 <= at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
    return 0, -1


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(fields: list[Field]) -> bytes:
    """The protobuf message of these fields."""
    parts = []
    for number, wire, value in fields:
        parts.append(_encoded(number << 3 | wire))
        if wire == 0:
            parts.append(_encoded(value))
        else:
            parts.append((_encoded(len(value)) if wire == 2 else b"") + value)
    return b"".join(parts)


def mutate_protobuf(rng: Random, data: bytes) -> bytes:
    """One to three changes of fields at any depth; of the bytes where it is not a message."""
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _changed_message(rng, data, 0)
    return data[:MOST_BYTES]


def _changed_message(rng: Random, data: bytes, depth: int) -> bytes:
    fields = fields_of(data)
    if not fields or depth > 12:
        return _changed_payload(rng, data)
    index = rng.randrange(len(fields))
    number, wire, value = fields[index]
    if wire == 2 and value and rng.random() < 0.75:
        fields[index] = number, wire, _changed_message(rng, value, depth + 1)
        return message(fields)
    action = rng.randrange(8)
    if action <= 2 and wire == 0:
        fields[index] = number, wire, (rng.choice(EDGES) + rng.randrange(-1, 2)) % 2**64
    elif action <= 2:
        fields[index] = number, wire, _changed_payload(rng, value) if wire == 2 else rng.randbytes(len(value))
    elif action == 3:
        del fields[index]
    elif action == 4:
        fields[index:index] = [fields[index]] * rng.choice((1, 2, 3000))
    elif action == 5:
        fields[index] = rng.choice((1, 2, 5, 7, 8, 13, 14, 15, 20, 25, 500)), wire, value
    elif action == 6 and wire == 2:  # a message inside itself
        for _ in range(rng.choice((1, 40, 150, 1500))):
            value = message([(number, 2, value)])
        fields[index] = number, wire, value[:MOST_BYTES]
    else:
        other = rng.randrange(len(fields))
        fields[index], fields[other] = fields[other], fields[index]
    return message(fields)


def _changed_payload(rng: Random, data: bytes) -> bytes:
    if data[:1] == b"{":
        return mutate_json(rng, data)
    return rng.choice(HOSTILE_TEXTS).encode() if rng.random() < 0.3 else mutate_bytes(rng, data)


# ---------------------------------------------------------------- flatbuffers (TFLite)


def mutate_tflite(rng: Random, data: bytes) -> bytes:
    """Changes of offsets, of the objects behind them, or of the bytes."""
    kind = rng.random()
    if kind < 0.3:
        return mutate_bytes(rng, data)
    if kind < 0.65 or len(data) > 1 << 20:  # objects of a large file take long to make
        return _changed_offsets(rng, data)
    return _changed_objects(rng, data)


def _changed_offsets(rng: Random, data: bytes) -> bytes:
    """Numbers that look like offsets, vtables or counts get other values, preferably those of each other."""
    places = [at for at in range(0, len(data) - 3, 4) if 0 < _u32(data, at) < len(data) - at]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if places else 0):
        at = rng.choice(places[: rng.choice((40, 400, len(places)))])
        target = rng.choice(places)
        new = rng.choice((_u32(data, target), (target - at) % 2**32, rng.choice(EDGES) % 2**32, len(data) - at - 4, 0))
        struct.pack_into("<I", changed, at, new)
    return bytes(changed)


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _changed_objects(rng: Random, data: bytes) -> bytes:
    """The model as the objects of its schema, some of whose attributes change, written again."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for _ in range(rng.choice((1, 1, 2, 4))):
            holder, name, value = rng.choice(list(_attributes(model)))
            setattr(holder, name, _other_value(rng, value))
        builder = flatbuffers.Builder(len(data) + 1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())[:MOST_BYTES]
    except Exception:  # the schema's classes do not write every value
        return mutate_bytes(rng, data)


def _attributes(top: Any) -> Iterator[tuple[Any, str, Any]]:
    waiting = [top]
    while waiting:
        holder = waiting.pop()
        for name, value in vars(holder).items():
            yield holder, name, value
            waiting += [v for v in (value if isinstance(value, list) else [value]) if hasattr(v, "__dict__")]


def _other_value(rng: Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((-1, 0, 1, value + 1, 127, 255, 32767, 2**31 - 1, -(2**31)))
    if isinstance(value, bytes):
        return rng.choice((b"", b"\xff\xfe", b"\x1b[31m", value * 1000, b"x" * 100_000))
    if isinstance(value, list):
        return rng.choice(([], value[:1], value * 2, list(reversed(value)), None))
    if value is not None and hasattr(value, "dtype"):  # a vector of numbers
        edge = rng.choice((-1, 0, 1, 127, 2**31 - 1, -(2**31)))
        changed = value.copy()
        if len(changed):
            changed[rng.randrange(len(changed))] = edge % 256 if value.dtype.itemsize == 1 else edge
        return rng.choice((changed, value[:0], value[:1], value.repeat(3)))
    return None


# ---------------------------------------------------------------- arrays, weights, frames

_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }",
    "{'descr': %s, 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': %s, 'shape': (3,), }",
)  # fmt: skip
_ODD = (
    "(30000, 30000)", "(1000000000000,)", "(9223372036854775807, 2)", "(-1,)", "(True,)", "('a',)", "(1.5,)", "()",
    "3", "None", "(", "(" * 5000 + ")" * 5000, "9" * 5000, "('<f4', (2,))", "'|O'", "'O8'", "'<U1000000000'",
    "'|V2000000000'", "'<f16'", "'m8[ns]'", "[('a', '<f4')]", "[('a', [('b', '<f4')] * 9)]", "'<f4,(2000,2000)i4'",
    "'\\x00'", "'\\ud800'", "''", "b'<f4'", "{}", "__import__", "'" + "(2,)" * 500 + "f4'", "(0, 4000000000)",
    "(3, 0)",
)  # fmt: skip


def mutate_npy(rng: Random, data: bytes) -> bytes:
    """The text of the header, its length, or the bytes."""
    kind = rng.random()
    if kind < 0.3 or len(data) < 12 or data[:6] != b"\x93NUMPY":
        return mutate_bytes(rng, data)
    wide = data[6] > 1
    size = int.from_bytes(data[8 : 12 if wide else 10], "little")
    start = 12 if wide else 10
    header, body = data[start : start + size], data[start + size :]
    header = (rng.choice(_HEADERS) % rng.choice(_ODD)).encode() if kind < 0.8 else mutate_bytes(rng, header)
    said = len(header) if rng.random() < 0.9 else rng.choice(EDGES)
    version, width = (b"\2\0", 4) if len(header) > 65535 or rng.random() < 0.1 else (b"\1\0", 2)
    return data[:6] + version + (said % (1 << 8 * width)).to_bytes(width, "little") + header + body


def mutate_safetensors(rng: Random, data: bytes) -> bytes:
    """The JSON at the beginning, its length, or the bytes."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.25 or size > len(data):
        return mutate_bytes(rng, data)
    header, body = mutate_json(rng, data[8 : 8 + size]), data[8 + size :]
    said = len(header) if rng.random() < 0.9 else rng.choice(EDGES)
    return (said % 2**64).to_bytes(8, "little") + header + body


def mutate_frame(rng: Random, data: bytes) -> bytes:
    """A frame of the worker's protocol: the JSON of its header, the two lengths, or the bytes."""
    size = int.from_bytes(data[4:8], "little")
    if rng.random() < 0.3 or len(data) < 16 + size:
        return mutate_bytes(rng, data)
    header, body = mutate_json(rng, data[16 : 16 + size]), data[16 + size :]
    lengths = [len(header), len(body)]
    if rng.random() < 0.3:
        lengths[rng.randrange(2)] = rng.choice(EDGES)
    return data[:4] + struct.pack("<IQ", lengths[0] % 2**32, lengths[1] % 2**64) + header + body


# ---------------------------------------------------------------- sounds and images


def mutate_wav(rng: Random, data: bytes) -> bytes:
    """A field of the description, the length of a chunk, an additional chunk, or the bytes."""
    at = data.find(b"fmt ")
    action = rng.randrange(5)
    if at < 0 or action == 0:
        return mutate_bytes(rng, data)
    changed = bytearray(data)
    if action <= 2:
        offset, size = rng.choice(((8, 2), (10, 2), (12, 4), (16, 4), (20, 2), (22, 2)))
        new = rng.choice((0, 1, 2, 3, 8, 24, 32, 64, 65535, 768_000, 0xFFFE, 2**32 - 1))
        changed[at + offset : at + offset + size] = (new % 256**size).to_bytes(size, "little")
    elif action == 3:
        place = rng.choice((4, at + 4, max(data.find(b"data"), 0) + 4))
        changed[place : place + 4] = (rng.choice(EDGES) % 2**32).to_bytes(4, "little")
    else:
        changed[12:12] = rng.choice((b"LIST", b"fmt ", b"data", b"\0\0\0\0")) + struct.pack(
            "<I", rng.choice((0, 1, 16, 2**31))
        )
    return bytes(changed)


def mutate_image(rng: Random, data: bytes) -> bytes:
    """Width and height, a chunk of a PNG file with a checksum that is right again, or the bytes."""
    kind = rng.random()
    if kind < 0.35:
        return mutate_bytes(rng, data)
    if data[:4] == b"\x89PNG":
        return _changed_png(rng, data)
    side = rng.choice((0, 1, 255, 1000, 9_999, 30_000, 65_535))
    other = rng.choice((0, 1, side, 30_000, 65_535))
    if data[:1] == b"P" and data[1:2].isdigit():
        return re.sub(rb"\d+ \d+", b"%d %d" % (side, other), data, count=1)
    little = {b"GIF8": 6, b"BM": 18, b"RIFF": 24}
    at = next((place for start, place in little.items() if data.startswith(start)), 0)
    order = "<HH" if at else ">HH"
    if data[:2] == b"\xff\xd8":
        found = re.search(rb"\xff[\xc0-\xc2]...", data, re.DOTALL)
        at = found.end() if found else 0
    return data[:at] + struct.pack(order, side, other) + data[at + 4 :]


def _changed_png(rng: Random, data: bytes) -> bytes:
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:  # what an earlier change left is too short for one
        return mutate_bytes(rng, data)
    index = rng.randrange(len(chunks))
    name, body = chunks[index]
    action = rng.randrange(6)
    if action <= 1 and chunks[0][0] == b"IHDR":
        width, height = rng.choice(
            ((0, 1), (30_000, 30_000), (10_000, 9_000), (2**31 - 1, 1), (9_000, 9_000), (2**31, 2**31))
        )
        depth = rng.choice((b"\x08\x02", b"\x08\x06", b"\x10\x06", b"\x01\x00", b"\x08\x03", b"\x07\x09"))
        chunks[0] = b"IHDR", struct.pack(">II", width, height) + depth + b"\0\0\0"
        if rng.random() < 0.5:  # and as many zeros as it takes
            chunks[1:] = [(b"IDAT", _zlib_zeros()), (b"IEND", b"")]
    elif action == 2:
        chunks[index] = name, mutate_bytes(rng, body)
    elif action == 3:
        more = rng.choice((b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"acTL", b"fcTL", b"PLTE", b"tRNS"))
        chunks.insert(1, (more, b"key\0\0" + (_zlib_zeros() if rng.random() < 0.5 else rng.randbytes(20))))
    elif action == 4:
        chunks[index:index] = [chunks[index]] * rng.choice((1, 2000))
    else:
        chunks[index] = rng.choice((b"IDAT", b"IEND", b"IHDR", b"xxxx")), body
    parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return (data[:8] + b"".join(parts))[:MOST_BYTES]


def _zlib_zeros() -> bytes:
    """A zlib stream of 1.5 GiB of zeros; its checksum is missing."""
    maker = zlib.compressobj(9)
    block = b"".join((maker.compress(bytes(1 << 24)), maker.flush(zlib.Z_FULL_FLUSH)))
    return block + block[2:] * (BOMB_BYTES // (1 << 24) - 1)


# ---------------------------------------------------------------- the card inside a model


def _json_of(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]] | None:
    """The card in a file, and what writes the file with another one; None if there is no card."""
    if data[4:8] == b"TFL3":
        return _tflite_card(data)
    if data[:2] == b"PK":
        members = read_zip(data)
        index = next((k for k, m in enumerate(members) if m.name.endswith(b"/extra/edgekit")), None)
        if index is None:
            return None
        name, before, after = members[index].name, members[:index], members[index + 1 :]
        return members[index].data, lambda card: write_zip([*before, Member(name, card), *after])
    size = int.from_bytes(data[:8], "little")
    if size < len(data) and data[8:9] == b"{":
        header = json.loads(data[8 : 8 + size])
        card = header["__metadata__"]["edgekit"].encode()

        def written(new: bytes) -> bytes:
            header["__metadata__"]["edgekit"] = new.decode("utf-8", "replace")
            text = json.dumps(header).encode()
            return len(text).to_bytes(8, "little") + text + data[8 + size :]

        return card, written
    return _onnx_card(data)


def _onnx_card(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]] | None:
    fields = fields_of(data) or []
    for index, (number, wire, value) in enumerate(fields):
        entry = fields_of(value) if (number, wire) == (14, 2) else None
        if entry and entry[0] == (1, 2, b"edgekit"):
            return entry[1][2], functools.partial(_with_onnx_card, fields[:index] + fields[index + 1 :])
    return None


def _with_onnx_card(rest: list[Field], card: bytes) -> bytes:
    return message([*rest, (14, 2, message([(1, 2, b"edgekit"), (2, 2, card)]))])


def _tflite_card(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]] | None:
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    entry = next((one for one in model.metadata or () if one.name == b"edgekit"), None)
    if entry is None:
        return None

    def written(card: bytes) -> bytes:
        model.buffers[entry.buffer].data = np.frombuffer(card, np.uint8)
        builder = flatbuffers.Builder(len(data) + len(card))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return bytes(model.buffers[entry.buffer].data), written


def mutate_card(rng: Random, data: bytes) -> bytes:
    """Only the card changes: the JSON inside a model file or a checkpoint."""
    try:
        found = _json_of(data)
    except Exception:  # it was changed before: there may be no card in it any more, or nothing that can be read
        found = None
    if found is None:
        return mutate_bytes(rng, data)
    card, written = found
    if rng.random() < 0.05:  # a card far larger than the model
        rows = Pairs([("schema", "edgekit.card/1"), ("notes", ["x" * 1000] * 3000)])
        return written(dumped(rows).encode())
    return written(mutate_json(rng, card))


# ---------------------------------------------------------------- which file is changed by which


def mutator_of(name: str) -> Mutator:
    """The mutator of a file by its name."""
    path = PurePath(name.lower())
    suffixes = path.suffixes
    if path.suffix in (".tgz", ".tar", ".txz") or suffixes[-2:-1] == [".tar"]:
        return mutate_tar(mutator_of)
    if path.suffix == ".gz":
        return mutate_packed(mutator_of(path.stem))
    return _BY_SUFFIX.get(path.suffix, mutate_json if path.name == "edgekit" else mutate_bytes)


_BY_SUFFIX: Mapping[str, Mutator] = {
    ".onnx": mutate_protobuf, ".pb": mutate_protobuf, ".tflite": mutate_tflite, ".safetensors": mutate_safetensors,
    ".pt2": mutate_zip(mutator_of), ".npz": mutate_zip(mutator_of), ".zip": mutate_zip(mutator_of),
    ".keras": mutate_zip(mutator_of), ".npy": mutate_npy, ".frame": mutate_frame, ".json": mutate_json,
    ".toml": mutate_toml, ".jsonl": mutate_json_lines, ".part": mutate_json_lines, ".csv": mutate_table,
    ".tsv": mutate_table, ".txt": mutate_table, ".wav": mutate_wav,
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm"), mutate_image),
}  # fmt: skip
