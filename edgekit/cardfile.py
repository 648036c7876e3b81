"""The card as JSON: the one place that knows its field names on disk (schema ``edgekit.card/1``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgekit.errors import ModelError
from edgekit.types import (
    Card,
    InputContract,
    Quality,
    QuantizedTensor,
    SelfTest,
    Signature,
    Step,
    Streaming,
    Task,
    TensorSpec,
)

SCHEMA = "edgekit.card/1"


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
    """Inverse of :func:`signature_to_json`."""

    def spec(row: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec(str(row["name"]), str(row["dtype"]), tuple(row["shape"]))

    return Signature(tuple(map(spec, document["inputs"])), tuple(map(spec, document["outputs"])))


def card_to_json(card: Card) -> dict[str, Any]:
    """The card as plain JSON values; empty fields are left out."""
    document: dict[str, Any] = {"schema": SCHEMA, **asdict(card), "signature": signature_to_json(card.signature)}
    if card.streaming is not None:
        document["streaming"] = _streaming_to_json(card.streaming)
    return {key: value for key, value in document.items() if value not in (None, "", (), {}, [])}


def card_from_json(document: Mapping[str, Any]) -> Card:
    """Inverse of :func:`card_to_json`.

    Raises:
        ModelError: another schema, or a field that is missing or of the wrong type.
    """
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ModelError(f"the card inside the file has schema {schema!r}, this edgekit reads {SCHEMA!r}")
    try:
        return Card(
            name=str(document["name"]),
            family=str(document["family"]),
            task=_task(document.get("task", {})),
            signature=signature_from_json(document["signature"]),
            contract={name: _contract(row) for name, row in document.get("contract", {}).items()},
            config=dict(document.get("config", {})),
            steps=tuple(Step(row["name"], row["params"], row["versions"]) for row in document.get("steps", ())),
            source_sha256=str(document.get("source_sha256", "")),
            quality=tuple(Quality(**row) for row in document.get("quality", ())),
            selftest=_selftest(document.get("selftest")),
            quantized_io={name: QuantizedTensor(**row) for name, row in document.get("quantized_io", {}).items()},
            account=document.get("account"),
            parent=document.get("parent"),
            notes=tuple(document.get("notes", ())),
            streaming=_streaming(document.get("streaming")),
            stateful=document.get("stateful"),
            ranges=document.get("ranges"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the card inside the file is not valid: {type(error).__name__}: {error}") from error


def _task(row: Mapping[str, Any]) -> Task:
    return Task(
        str(row.get("kind", "none")),
        tuple(map(str, row.get("labels", ()))),
        str(row.get("metric", "")),
        dict(row.get("params", {})),
    )


def _contract(row: Mapping[str, Any]) -> InputContract:
    size = row.get("size")
    return InputContract(
        kind=str(row["kind"]),
        layout=str(row["layout"]),
        size=(int(size[0]), int(size[1])) if size else None,
        channels=int(row["channels"]),
        scale=float(row["scale"]),
        mean=tuple(map(float, row["mean"])),
        std=tuple(map(float, row["std"])),
        columns=tuple(map(str, row["columns"])),
        params=dict(row.get("params", {})),
    )


def _selftest(row: Mapping[str, Any] | None) -> SelfTest | None:
    if row is None:
        return None
    outputs = {name: tuple(map(float, values)) for name, values in row["outputs"].items()}
    return SelfTest(int(row["seed"]), outputs, float(row["tolerance"]))


def _streaming_to_json(streaming: Streaming) -> dict[str, Any]:
    states = [{"input": before, "output": after, "initial": 0.0} for before, after in streaming.states.items()]
    return {"sequence": signature_to_json(streaming.sequence), "states": states}


def _streaming(row: Mapping[str, Any] | None) -> Streaming | None:
    if row is None:
        return None
    if any(state["initial"] != 0 for state in row["states"]):
        raise ValueError("a state begins at something else than zero")
    states = {str(state["input"]): str(state["output"]) for state in row["states"]}
    return Streaming(signature_from_json(row["sequence"]), states)


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
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ModelError(f"the card inside the file is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError("the card inside the file is not a JSON object")
    return card_from_json(document)
