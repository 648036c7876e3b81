"""The card as JSON: the one place that knows its field names on disk (schema ``edgekit.card/1``)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, Final, TypedDict

from edgekit.documents import parse_json, typed
from edgekit.errors import ModelError
from edgekit.limits import check
from edgekit.types import TIME, Card, InputSpec, Signature, Streaming, TensorSpec

SCHEMA = "edgekit.card/1"
_ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "uint32": 4,
    "float32": 4, "int64": 8, "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16, "string": 8, "unknown": 8,
}  # fmt: skip
"""dtype of a tensor -> bytes of an element."""
_MOST_AXES = 32
_QUANTIZED = ("int8", "uint8", "int16", "uint16", "int32")
_NOT_FED = ("bfloat16", "string", "unknown")
_LAYOUTS = ("NCHW", "NHWC", "NHW")


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions of the distributions ``names``, those that are installed; for ``Step.versions``."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def signature_to_json(signature: Signature) -> dict[str, list[dict[str, Any]]]:
    """``{"inputs": [{"name", "dtype", "shape"}], "outputs": [...]}``."""

    def row(spec: TensorSpec) -> dict[str, Any]:
        return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}

    return {"inputs": [row(s) for s in signature.inputs], "outputs": [row(s) for s in signature.outputs]}


def signature_from_json(document: Mapping[str, Any]) -> Signature:
    """Inverse of :func:`signature_to_json`.

    Raises:
        ValueError: a field is missing or of another type.
    """
    return typed(Signature, document, "signature")


_spelling: ContextVar[Mapping[str, str]] = ContextVar("spelling", default=MappingProxyType({}))


@contextmanager
def spelled_as(spelling: Mapping[str, str]) -> Iterator[None]:
    """Cards that are written in the block say the values where their texts hold the keys: paths of a place that is
    nobody's business, so that the same work done elsewhere gives the same file, bit for bit."""
    token = _spelling.set({**_spelling.get(), **spelling})
    try:
        yield
    finally:
        _spelling.reset(token)


def respelled(value: Any, spelling: Mapping[str, str]) -> Any:
    """JSON values with the values of ``spelling`` in place of its keys, in every text that is one or names one
    (``npz:PATH``, ``size=64,labels=PATH``)."""
    if isinstance(value, str):
        for old, new in spelling.items():
            value = re.sub(f"(?<![^:=,\\s]){re.escape(old)}", new.replace("\\", r"\\"), value)
        return value
    if isinstance(value, Mapping):
        return {respelled(key, spelling): respelled(one, spelling) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(respelled(one, spelling) for one in value)
    return value


_ALWAYS: Final = ("name", "family", "task", "signature")


def card_to_json(card: Card) -> dict[str, Any]:
    """The card as plain JSON values; empty fields are left out, but for those that every card has."""
    document: dict[str, Any] = {"schema": SCHEMA, **asdict(card), "signature": signature_to_json(card.signature)}
    if card.streaming is not None:
        document["streaming"] = _streaming_to_json(card.streaming)
    written = {key: value for key, value in document.items() if key in _ALWAYS or value not in (None, "", (), {}, [])}
    spelling = _spelling.get()
    return {**respelled(written, spelling)} if spelling else written


def card_from_json(document: Mapping[str, Any]) -> Card:
    """Inverse of :func:`card_to_json`.

    Raises:
        ModelError: another schema, or a field that is missing or of the wrong type.
        LimitError: it asks for inputs that are too large.
    """
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ModelError(f"the card inside the file has schema {str(schema)[:60]!r}, this edgekit reads {SCHEMA!r}")
    try:
        streaming = document.get("streaming")
        card = typed(Card, {**document, "streaming": None}, "card")
        task = replace(card.task, params=typed(_TaskParams, card.task.params, "card.task.params"))
        contract = {name: _contract(rule, f"card.contract.{name}") for name, rule in card.contract.items()}
        config = typed(_Config, card.config, "card.config")
        _check_signature(card.signature)
        _check_outputs(card)
        return replace(card, task=task, contract=contract, config=config, streaming=_streaming(streaming))
    except ValueError as error:
        raise ModelError(f"the card inside the file is not valid: {error}") from error


class _Config(TypedDict, total=False):
    """What is known in ``Card.config``."""

    family: str
    builder: Mapping[str, Any]
    factory: str
    sha256: str
    skipped: Mapping[str, str]
    weights: str
    why: str


class _TaskParams(TypedDict, total=False):
    """What is known in ``Task.params``; see the modules of :mod:`edgekit.quality`."""

    threshold: float
    percentile: float
    held_out: str
    unseen: Mapping[str, Any]
    target: str
    horizon: int
    mean: float
    std: float
    range: tuple[float, float]
    channels: int
    size: tuple[int, int]
    features: str


class _ContractParams(TypedDict, total=False):
    """What is known in ``InputSpec.params``; see the modules of :mod:`edgekit.data`."""

    interpolation: str
    shorter: int
    resize: tuple[int, int]
    rate: int
    window: int
    hop: int
    n_fft: int
    bands: int
    fmin: float
    fmax: float
    floor: float
    frames: int
    level: str
    least: float
    pad: str
    history: int
    pattern: str
    tokenizer: str
    lower: bool
    beginning: int
    length: int
    vocabulary: str
    most: int | str
    sorted: bool
    longest: bool


def _contract(rule: InputSpec, where: str) -> InputSpec:
    """``rule`` with typed parameters; ValueError and LimitError for what no input can be made of."""
    params = typed(_ContractParams, rule.params, f"{where}.params")
    numbers = {name: value for name, value in params.items() if type(value) is int}
    if rule.layout not in (_LAYOUTS if rule.kind == "image" else (*_LAYOUTS, "")):
        raise ValueError(f"{where}.layout is {rule.layout[:60]!r}, one of {', '.join(_LAYOUTS)} was expected")
    sizes = rule.size or (1, 1)
    if min(*sizes, *params.get("resize", ())) < 1 or min(rule.channels, *numbers.values(), 0) < 0:
        raise ValueError(f"{where} has a size of 0 pixels, or one below 0")
    if 0 in rule.std:
        raise ValueError(f"{where}.std holds 0, by which nothing can be divided")
    frames, transform = numbers.get("frames", 0), numbers.get("n_fft", 0)
    for wanted in (
        math.prod(sizes) * max(rule.channels, 1) * 4,
        math.prod(params.get("resize", ())) * 3,
        frames * numbers.get("bands", 0) * 4,
        (frames + numbers.get("bands", 0)) * transform * 8,
        frames * numbers.get("hop", 0) * 4,
        numbers.get("length", 0) * 4,
        numbers.get("history", 0) * max(len(rule.columns), 1) * 4,
    ):
        check("INPUT_BYTES", wanted, f"the input that {where} describes")
    return replace(rule, params=params)


def _check_signature(signature: Signature) -> None:
    for spec in signature.inputs:
        if spec.dtype in _NOT_FED:
            raise ValueError(f"the input {spec} is of {spec.dtype}, which cannot be fed")
    for spec in (*signature.inputs, *signature.outputs):
        if len(spec.shape) > _MOST_AXES:
            raise ValueError(f"a tensor has {len(spec.shape)} axes, at most {_MOST_AXES} were expected")
        if any(isinstance(size, int) and size < 0 for size in spec.shape):
            raise ValueError(f"the tensor {spec} has a size below 0")
        if spec.dtype not in _ITEM_BYTES:
            raise ValueError(f"the tensor {spec.name!r} is of {spec.dtype[:60]!r}; known are: {', '.join(_ITEM_BYTES)}")
        check("INPUT_BYTES", math.prod(spec.resolved()) * _ITEM_BYTES[spec.dtype], f"the tensor {spec}")


def _check_outputs(card: Card) -> None:
    """Raises ValueError where self-test or quantization speak of tensors that are not there, or of none that can be."""
    outputs = {spec.name for spec in card.signature.outputs}
    tensors = outputs | {spec.name for spec in card.signature.inputs}
    foreign = [*(card.selftest.outputs if card.selftest else {})]
    foreign = [name for name in foreign if name not in outputs] + [n for n in card.quantized_io if n not in tensors]
    if foreign:
        raise ValueError(f"it speaks of {foreign[0][:60]!r}, which its signature does not have")
    for name, how in card.quantized_io.items():
        if how.dtype not in _QUANTIZED or how.scale <= 0:
            raise ValueError(f"card.quantized_io.{name} is {how.dtype[:60]} with the scale {how.scale}")


def _streaming_to_json(streaming: Streaming) -> dict[str, Any]:
    states = [{"input": before, "output": after, "initial": 0.0} for before, after in streaming.states.items()]
    document: dict[str, Any] = {"sequence": signature_to_json(streaming.sequence), "states": states}
    if streaming.frames != 1:
        document["frames"] = streaming.frames
    if streaming.delay:
        document |= {"delay": streaming.delay, "ended": streaming.ended}
    if streaming.skipped:
        document["skipped"] = dict(streaming.skipped)
    return document


@dataclass(frozen=True, slots=True)
class _State:
    """One pair of ``Streaming.states`` as it stands in the file."""

    input: str
    output: str
    initial: float


@dataclass(frozen=True, slots=True)
class _Streaming:
    sequence: Signature
    states: tuple[_State, ...]
    frames: int = 1
    delay: int = 0
    ended: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)


def _streaming(row: Any) -> Streaming | None:
    if row is None:
        return None
    found = typed(_Streaming, row, "card.streaming")
    if any(state.initial != 0 for state in found.states):
        raise ValueError("a state begins at something else than zero")
    _check_signature(found.sequence)
    states = {state.input: state.output for state in found.states}
    if found.frames < 1 or found.delay < 0 or any(count < 0 for count in found.skipped.values()):
        raise ValueError("a step has 1 frame or more, and a delay is not negative")
    for count in (found.frames, found.delay, *found.skipped.values()):
        check("STREAM_FRAMES", count, "the card")
    if found.delay and found.ended not in states:
        raise ValueError("outputs are delayed, and no state says that the sequence has ended")
    unknown = set(found.skipped) - {spec.name for spec in found.sequence.outputs if TIME in spec.shape}
    if unknown:
        raise ValueError(f"frames of {min(unknown)[:60]!r} are skipped, which is not an output with a time")
    return Streaming(found.sequence, states, found.frames, found.delay, found.ended, found.skipped)


def encode_card(card: Card) -> bytes:
    """The card as compact UTF-8 JSON.

    Raises:
        ValueError: a value that JSON does not have (NaN, an array).
    """
    text = json.dumps(card_to_json(card), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def decode_card(data: bytes) -> Card:
    """Inverse of :func:`encode_card`.

    Raises:
        ModelError: the bytes are not the JSON of a card.
        LimitError: too large, or it asks for inputs that are.
    """
    document = parse_json(data, ModelError, "the card inside the file", "CARD_BYTES")
    if not isinstance(document, dict):
        raise ModelError("the card inside the file is not a JSON object")
    return card_from_json(document)
