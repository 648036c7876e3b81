"""What the targets ``android`` and ``ios`` share: the order of the work, and literals like Kotlin's and Swift's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from edgekit.data.audio import running_least
from edgekit.data.logmel import from_params, hz_to_mel, mel_to_hz
from edgekit.errors import UnsupportedError
from edgekit.packaging.base import (
    Package,
    Subject,
    Target,
    Tensor,
    fixed_sizes,
    head,
    identifier,
    score_map,
    template,
)
from edgekit.packaging.blobs import FILE, Blob, SampleBlobs, blobs_of
from edgekit.packaging.c import bars, image_size
from edgekit.packaging.python import factors, tokenizer
from edgekit.packaging.readme import readme
from edgekit.taskfields import gives_logits
from edgekit.types import Format, InputSpec

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
        logits = gives_logits(task.params)
        return {
            "kind": task.kind,
            "THRESHOLD": repr(float(task.params.get("threshold", 0.5))),
            "LOGITS": str(logits).lower(),
        }
    if task.kind == "forecasting":
        mean, std = (str(np.float32(task.params.get(key, usual))) for key, usual in (("mean", 0.0), ("std", 1.0)))
        return {"kind": task.kind, "MEAN": mean, "STD": std}
    return None


class Mobile(Target):
    """An app's code from templates: the constants of the model, the preprocessing, the model, a self-test.

    Attributes:
        name, title: of the target, as an option and for people.
        suffix: of a file of code.
        speech: how the language spells values.
        resources: the folder of what is not code; project: the file that names the runtime.
    """

    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "text", "table", "series")
    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    speech: ClassVar[Language]
    resources: ClassVar[str]
    project: ClassVar[str]

    def check(self, subject: Subject) -> None:
        fixed_sizes(subject, self.name)
        check_types(subject, self.name)

    def make(self, subject: Subject) -> Package:
        names = {"HEAD": head(subject, self.name), "SUFFIX": str(subject.artifact.format), **self._names(subject)}
        parts = {
            "Spec": self._spec(subject), "Preprocess": {}, "Model": self._model(subject),
            "SelfTest": self._selftest(subject),
        }  # fmt: skip
        resources = {
            subject.model_file: subject.content,
            "labels.txt": "".join(f"{label}\n" for label in subject.labels).encode(),
            FILE: blobs_of(subject).content,
        }
        files = {f"{self.resources}/{name}": data for name, data in resources.items() if data}
        for part, values in parts.items():
            file = f"{part}.{self.suffix}"
            files[f"{self._sources(subject)}/{file}"] = self._template(file, **names, **values).encode()
        files[self.project] = self._template(self.project, **names).encode()
        files["README.md"] = readme(subject, self.title, self._template("README.md", CALL=self._call(subject), **names))
        return Package(files)

    def _template(self, file: str, **values: str) -> str:
        return template(f"{self.name}/{file}", **values)

    def _spec(self, subject: Subject) -> dict[str, str]:
        """The constants of the model."""
        facts, text = answer_facts(subject), self.speech.text
        return {
            "MODEL": text(subject.model_file),
            "INPUTS": self._infos(subject.inputs),
            "OUTPUTS": self._infos(subject.outputs),
            "LABELS": ", ".join(map(text, subject.labels)),
            "RULES": "".join(self._rule(one, one.rule) for one in subject.made if one.rule is not None),
            "ANSWER": "" if facts is None else self._template(f"{facts.pop('kind')}.{self.suffix}", **facts),
        }

    def _selftest(self, subject: Subject) -> dict[str, str]:
        """The comparisons with the card's answers, and of the preprocessing with edgekit's."""
        blobs, text = blobs_of(subject), self.speech.text
        feed = [self._bytes(blob.offset, array.nbytes) for blob, array in zip(blobs.feed, subject.feed, strict=True)]
        expected = "".join(
            self._compared(text(f"output {subject.outputs[k].name}"), f"made[{k}]", blob, blobs.tolerance)
            for k, blob in enumerate(blobs.expected)
            if blob.count
        )
        samples = "".join(self._sample(subject, one) for one in blobs.samples)
        return {"FEED": ", ".join(feed), "EXPECTED": expected, "SAMPLES": samples}

    def _sample(self, subject: Subject, one: SampleBlobs) -> str:
        tensor = next(tensor for tensor in subject.inputs if tensor.name == one.input)
        assert tensor.rule is not None
        given = self.speech.text(one.text) if one.text is not None else self._raw(tensor.rule, one.raw)
        made = self._encoded(tensor.rule, f"Spec.{rule_name(tensor)}.encode({given})")
        return self._compared(self.speech.text(f"preprocessing of {one.input}"), made, one.tensor, one.tolerance)

    def _raw(self, rule: InputSpec, blob: Blob | None) -> str:
        """The raw sample of a rule's kind in ``blob``."""
        assert blob is not None
        if rule.kind == "image":
            return self._picture(blob)
        return f"{values(blob)}{self._rate(int(rule.params['rate'])) if rule.kind == 'audio' else ''}"

    @abstractmethod
    def _names(self, subject: Subject) -> dict[str, str]:
        """What all templates may name, beside ``HEAD`` and ``SUFFIX``."""

    @abstractmethod
    def _sources(self, subject: Subject) -> str:
        """The folder of code."""

    @abstractmethod
    def _model(self, subject: Subject) -> dict[str, str]:
        """What runs the model, and what predicts from a raw sample."""

    @abstractmethod
    def _call(self, subject: Subject) -> str:
        """A call of the model, for README."""

    @abstractmethod
    def _infos(self, tensors: Iterable[Tensor]) -> str:
        """What is known of inputs or outputs."""

    @abstractmethod
    def _rule(self, one: Tensor, rule: InputSpec) -> str:
        """The rule of an input as a constant."""

    @abstractmethod
    def _compared(self, title: str, made: str, blob: Blob, tolerance: float) -> str:
        """A line that compares ``made`` with ``blob``."""

    @abstractmethod
    def _bytes(self, start: int, count: int) -> str:
        """A part of the blobs."""

    @abstractmethod
    def _picture(self, blob: Blob) -> str:
        """A picture in the blobs."""

    @abstractmethod
    def _rate(self, rate: int) -> str:
        """The sampling rate as the last argument."""

    def _encoded(self, rule: InputSpec, call: str) -> str:
        """The call of a rule's preprocessing."""
        return call


def values(blob: Blob) -> str:
    """The numbers of a blob."""
    if blob.dtype == "float32":
        return f"floats(blobs, {blob.offset}, {blob.count})"
    return f"integers(blobs, {blob.offset}, {blob.count}, {8 if blob.dtype == 'int64' else 4})"
