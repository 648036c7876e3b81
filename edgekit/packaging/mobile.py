"""What the targets ``android`` and ``ios`` share: constants in languages with literals like Kotlin's and Swift's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from edgekit.data.audio import running_least
from edgekit.data.logmel import from_params, hz_to_mel, mel_to_hz
from edgekit.errors import UnsupportedError
from edgekit.packaging.base import Subject, Tensor, identifier, score_map
from edgekit.packaging.c import bars, image_size
from edgekit.packaging.python import factors, tokenizer
from edgekit.types import InputSpec

TYPES: Mapping[str, str] = {
    "float32": "float32", "int8": "int8", "uint8": "uint8", "int16": "int16", "int32": "int32", "int64": "int64",
    "bool": "boolean",
}  # fmt: skip
_STRING = 20_000
"""Characters of one literal; Java's class files hold at most 65,535 bytes in one."""
CLASSES = {
    "image": "ImageRule", "audio": "AudioRule", "text": "TextRule", "table": "ColumnsRule", "series": "ColumnsRule",
}  # fmt: skip
"""Kind -> the class of its rule in the language's preprocessing."""


def check_types(subject: Subject, target: str) -> None:
    """Refuses tensors that the code does not pass.

    Raises:
        UnsupportedError: one holds another type.
    """
    for one in (*subject.inputs, *subject.outputs):
        if one.dtype not in TYPES:
            known = ", ".join(TYPES)
            raise UnsupportedError(f"{one.name!r} holds {one.dtype}, and --for {target} passes {known}")


class Language:
    """How a language spells values.

    Args:
        unicode: an escape for one character that is not printable ASCII.
        escaped: characters that need a backslash in a string.
        floats: what makes an array of float32 of the numbers.
        doubles: the same for float64.
        half: what is put behind a float32 literal.
    """

    def __init__(self, unicode: Callable[[str], str], escaped: str, floats: str, doubles: str, half: str) -> None:
        self.unicode, self.escaped, self.half = unicode, escaped, half
        self._floats, self._doubles = floats, doubles

    def text(self, value: str) -> str:
        """A string literal; a long one in pieces joined by +."""
        pieces = [value[k : k + _STRING] for k in range(0, len(value), _STRING)] or [""]
        return " +\n        ".join(f'"{"".join(map(self._char, piece))}"' for piece in pieces)

    def _char(self, char: str) -> str:
        if char in self.escaped:
            return f"\\{char}"
        return char if " " <= char <= "~" else self.unicode(char)

    def number(self, value: float) -> str:
        """A float32."""
        return f"{np.float32(value)!s}{self.half}"

    def floats(self, values: Iterable[Any]) -> str:
        """An array of float32."""
        return self._floats.format(", ".join(map(self.number, values)))

    def doubles(self, values: Iterable[Any]) -> str:
        """An array of float64."""
        return self._doubles.format(", ".join(repr(float(value)) for value in values))

    def flag(self, value: object) -> str:
        """A boolean."""
        return "true" if value else "false"


def rule_fields(one: Tensor, rule: InputSpec, language: Language) -> dict[str, str]:
    """The arguments of the rule's class by name, in order."""
    p, flag = rule.params, language.flag
    if rule.kind == "text":
        return {
            "length": str(int(p["length"])), "beginning": str(int(p.get("beginning", 0))),
            "lower": flag(p.get("lower", True)), "english": flag(tokenizer(rule) == "english"),
            "words": language.text(" ".join(str(p["vocabulary"]).split())),
        }  # fmt: skip
    factor, offset = factors(one)
    pair = {"factor": language.floats(factor), "offset": language.floats(offset)}
    if rule.kind == "image":
        height, width = image_size(one, rule)
        resize = [int(side) for side in p.get("resize", (height, width))]
        return {
            "height": str(height), "width": str(width), "channels": str(len(factor)),
            "channelsFirst": flag(rule.layout == "NCHW"), "bgr": flag(p.get("color") == "BGR"),
            "filter": language.text(str(p.get("interpolation", "bilinear")).lower()),
            "shorter": str(int(p.get("shorter", 0))), "resizeHeight": str(resize[0]), "resizeWidth": str(resize[1]),
            "bars": str(bars(rule)),
            **pair,
        }  # fmt: skip
    if rule.kind == "audio":
        f = from_params(p)
        corners = mel_to_hz(np.linspace(hz_to_mel(f.fmin), hz_to_mel(f.fmax), f.bands + 2))
        least = running_least(rule)
        return {
            "rate": str(f.rate), "window": str(f.window), "hop": str(f.hop), "transform": str(f.n_fft),
            "bands": str(f.bands), "frames": str(int(p["frames"])), "peak": flag(p.get("level") == "peak"),
            "padBack": flag(p.get("pad") == "back"), "floor": repr(f.floor), "corners": language.doubles(corners),
            **pair, **({"least": repr(least)} if least else {}),
        }  # fmt: skip
    rows = 1 if rule.kind == "table" else int(p.get("history") or one.shape[1])
    return {"rows": str(rows), "columns": str(one.shape[-1]), **pair}


def single(subject: Subject) -> Tensor | None:
    """The only input, where it is made of a raw sample."""
    return subject.made[0] if len(subject.inputs) == len(subject.made) == 1 else None


def rule_name(one: Tensor) -> str:
    """What the rule of an input is called: ``imageRule`` for the input ``image``."""
    first, *rest = identifier(one.name).split("_")
    return first + "".join(part.title() for part in rest) + "Rule"


def answer_facts(subject: Subject) -> dict[str, str] | None:
    """Which template answers for the task (``kind``), and its numbers; None where outputs are given as they are."""
    task = subject.card.task
    found = score_map(subject)
    if found is not None:
        one, axis = found
        rest = [size for k, size in enumerate(one.shape[1:], 1) if k != axis]
        facts = {"CLASSES": one.shape[axis], "HEIGHT": rest[0], "WIDTH": rest[1], "OUTPUT": subject.outputs.index(one)}
        facts |= {"STEP": rest[0] * rest[1], "PIXEL": 1} if axis == 1 else {"STEP": 1, "PIXEL": one.shape[axis]}
        return {"kind": "segmentation", **{key: str(value) for key, value in facts.items()}}
    if task.kind == "classification":
        return {"kind": task.kind}
    if task.kind == "multilabel":
        logits = task.params.get("activation", "logits") == "logits"
        return {
            "kind": task.kind,
            "THRESHOLD": repr(float(task.params.get("threshold", 0.5))),
            "LOGITS": str(logits).lower(),
        }
    if task.kind == "forecasting":
        mean, std = (str(np.float32(task.params.get(key, usual))) for key, usual in (("mean", 0.0), ("std", 1.0)))
        return {"kind": task.kind, "MEAN": mean, "STD": std}
    return None
