"""The README.md of a package: what it is, what the inputs and outputs mean, with what it was made."""

from __future__ import annotations

from edgekit.packaging.base import Subject, Tensor
from edgekit.types import Card

_ANSWERS = {
    "classification": "the probabilities (softmax) of the likeliest labels",
    "multilabel": "the labels whose probability reaches the threshold",
    "segmentation": "the number of the class of each pixel (argmax)",
    "forecasting": "the next values, in the units of the data",
    "anomaly": "the mean squared difference from the input, and whether it is above the card's threshold",
}


def readme(subject: Subject, target: str, usage: str, notes: tuple[str, ...] = ()) -> bytes:
    """Markdown with ``usage`` (what is in the folder, and how it is built in) in its middle."""
    card = subject.card
    lines = [f"# {card.name}, for {target}", ""]
    lines += [f"{_meaning(card)} The model is `{subject.model_file}`, {len(subject.content):,} bytes.", ""]
    lines += [usage.strip(), "", "## Inputs and outputs", ""]
    lines += ["| | name | type | shape | meaning |", "| --- | --- | --- | --- | --- |"]
    lines += [_row("input", one) for one in subject.inputs] + [_row("output", one) for one in subject.outputs]
    if subject.labels:
        shown = ", ".join(subject.labels[:20]) + (
            f" and {len(subject.labels) - 20} more" if len(subject.labels) > 20 else ""
        )
        lines += ["", f"Classes, in order ({len(subject.labels)}, `labels.txt`): {shown}."]
    if card.quality:
        figures = "; ".join(f"{q.metric} {q.value:.4g} on {q.data} ({q.total:,} samples)" for q in card.quality)
        lines += ["", f"Measured by edgekit: {figures}."]
    said = (*notes, *card.notes)
    lines += ["", "## Notes", "", *(f"- {note}" for note in said)] if said else []
    made = ", ".join(f"{name} {version}" for name, version in subject.versions.items())
    lines += ["", "## Versions", "", f"Made with {made}. `package.json` has the SHA-256 of every file.", ""]
    return "\n".join(lines).encode()


def _meaning(card: Card) -> str:
    answer = _ANSWERS.get(card.task.kind)
    return f"Task: {card.task.kind}; the answer is {answer}." if answer else f"Task: {card.task.kind}."


def _row(role: str, one: Tensor) -> str:
    how = one.quantization
    meaning = "" if one.rule is None else one.rule.formula()
    held = "" if how is None else f"real = {how.scale:.6g} * (integer - {how.zero_point})"
    words = "; ".join(part for part in (meaning, held) if part) or "as it is"
    shape = "×".join(map(str, one.shape))
    return f"| {role} | `{one.name}` | {one.dtype} | {shape} | {words} |"
