"""Constants and preprocessing in C, which the targets ``cpp`` and ``mcu`` share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekit.data.audio import running_least
from edgekit.data.logmel import from_params, hz_to_mel, mel_to_hz
from edgekit.errors import DataError
from edgekit.packaging.base import Subject, Tensor, identifier, template
from edgekit.packaging.python import factors, tokenizer
from edgekit.types import InputSpec

PARTS = {"image": "c/image.h", "audio": "c/audio.h", "table": "c/columns.h", "series": "c/columns.h"}
"""Kind -> the template with its preprocessing."""
_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_A_LINE = 110
_PIECE = 4000
"""Characters of one string literal: compilers limit them."""


def number(value: float) -> str:
    """A float32 as C has it."""
    text = repr(float(np.float32(value)))
    shortest = str(np.float32(value))
    return f"{shortest if '.' in shortest or 'e' in shortest else text}f"


def numbers(values: Iterable[Any]) -> str:
    """Numbers with commas between, broken into lines."""
    lines, line = [], ""
    for text in (value if isinstance(value, str) else str(value) for value in values):
        if line and len(line) + len(text) > _A_LINE:
            lines.append(line)
            line = ""
        line += f"{text}, "
    return "\n  ".join(["", *lines, line.rstrip(", ")])


def quoted(text: str) -> str:
    """A string literal of UTF-8 in C; a long one in pieces side by side."""
    pieces, piece = [], ""
    for byte in text.encode():
        char = chr(byte)
        piece += char if 32 <= byte < 127 and char not in '"\\?' else f"\\{byte:03o}"
        if len(piece) > _PIECE or (len(piece) > _A_LINE and char == " "):
            pieces.append(piece)
            piece = ""
    return "\n    ".join(f'"{one}"' for one in [*pieces, piece] if one or not pieces)


def rule_constants(one: Tensor, rule: InputSpec) -> str:
    """The rule of an input as constants; the last of them is called ``ek_rule_NAME``."""
    name = identifier(one.name)
    if rule.kind == "text":
        return _text_rule(name, rule)
    factor, offset = factors(one)
    arrays = "".join(
        f"static const float ek_{what}_{name}[] = {{{numbers(number(v) for v in values)}}};\n"
        for what, values in (("factor", factor), ("offset", offset))
    )
    pair = f"ek_factor_{name}, ek_offset_{name}"
    if rule.kind == "image":
        return arrays + _image_rule(one, rule, name, pair)
    if rule.kind == "audio":
        return arrays + _audio_rule(rule, name, pair)
    rows = 1 if rule.kind == "table" else int(rule.params.get("history") or one.shape[1])
    return f"{arrays}static const ek_columns_rule ek_rule_{name} = {{{rows}, {one.shape[-1]}, {pair}}};\n"


def image_size(one: Tensor, rule: InputSpec) -> tuple[int, int]:
    """Height and width of an image input."""
    if rule.layout == "NHW":
        return one.shape[1], one.shape[2] // max(rule.channels, 1)
    return (one.shape[2], one.shape[3]) if rule.layout == "NCHW" else (one.shape[1], one.shape[2])


def bars(rule: InputSpec) -> int:
    """The grey beside a picture that is shown whole; -1 where it fills the input."""
    whole = "letterbox" in rule.params and not {"shorter", "resize"} & {*rule.params}
    return int(rule.params["letterbox"]) if whole else -1


def _image_rule(one: Tensor, rule: InputSpec, name: str, pair: str) -> str:
    height, width = image_size(one, rule)
    params = rule.params
    name_of_filter = str(params.get("interpolation", "bilinear")).lower()
    if name_of_filter not in _FILTERS:
        raise DataError(f"the input {one.name!r} is resized by {name_of_filter!r}; known are: {', '.join(_FILTERS)}")
    resize = [int(side) for side in params.get("resize", (height, width))]
    layout = "EK_NCHW" if rule.layout == "NCHW" else "EK_NHWC"
    fields = [
        height, width, len(factors(one)[0]), layout, int(params.get("color") == "BGR"),
        f"EK_{name_of_filter.upper()}", int(params.get("shorter", 0)), *resize,
        bars(rule), pair,
    ]  # fmt: skip
    return f"static const ek_image_rule ek_rule_{name} = {{{', '.join(map(str, fields))}}};\n"


def _audio_rule(rule: InputSpec, name: str, pair: str) -> str:
    f = from_params(rule.params)
    corners = mel_to_hz(np.linspace(hz_to_mel(f.fmin), hz_to_mel(f.fmax), f.bands + 2))
    fields = [
        f.rate, f.window, f.hop, f.n_fft, f.bands, int(rule.params["frames"]),
        int(rule.params.get("level") == "peak"), int(rule.params.get("pad") == "back"), repr(f.floor),
        repr(running_least(rule) or 0.0),
        f"ek_corners_{name}", pair,
    ]  # fmt: skip
    return (
        f"static const double ek_corners_{name}[] = {{{numbers(repr(float(v)) for v in corners)}}};\n"
        f"static const ek_audio_rule ek_rule_{name} = {{{', '.join(map(str, fields))}}};\n"
    )


def _text_rule(name: str, rule: InputSpec) -> str:
    p = rule.params
    fields = [
        int(p["length"]), int(p.get("beginning", 0)), str(bool(p.get("lower", True))).lower(),
        str(tokenizer(rule) == "english").lower(), f"ek_vocabulary_{name}",
    ]  # fmt: skip
    words = quoted(str(p["vocabulary"]))
    return (
        f"static const char ek_vocabulary_{name}[] =\n    {words};\n"
        f"static const ek_text_rule ek_rule_{name} = {{{', '.join(map(str, fields))}}};\n"
    )


def preprocessing(subject: Subject, resizes: bool) -> str:
    """The functions of the kinds that the inputs have; of pictures of any size where the target ``resizes``."""
    there = list(dict.fromkeys(PARTS[one.rule.kind] for one in subject.made if one.rule and one.rule.kind in PARTS))
    if resizes and PARTS["image"] in there:
        there.append("c/resize.h")
    return "\n".join(template(part) for part in ("c/integers.h", *there))


def rules(subject: Subject) -> str:
    """The rules of all inputs that have one."""
    return "\n".join(rule_constants(one, one.rule) for one in subject.made if one.rule is not None)
