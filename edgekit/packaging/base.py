"""What every target of ``edgekit package`` gets, and what it has to give."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar

from edgekit.errors import UnsupportedError
from edgekit.types import Array, Artifact, Card, Format, InputSpec, QuantizedTensor

_PLACEHOLDER = re.compile(r"@@(\w+)@@")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output as the file holds it.

    Attributes:
        name: what the card calls it; ``file_name``: what the file does.
        position: its place among the inputs or outputs of the file.
        dtype: of the file, an integer where it is quantized.
        shape: every named dimension is 1.
        quantization: how its integers stand for real numbers.
        rule: of an input, how a raw sample becomes it; None where nothing is applied.
    """

    name: str
    file_name: str
    position: int
    dtype: str
    shape: tuple[int, ...]
    quantization: QuantizedTensor | None = None
    rule: InputSpec | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A raw sample and the tensor that edgekit makes of it, before it is quantized.

    Attributes:
        raw: ``image`` uint8 (height, width, 3), ``audio`` float32 samples at the rate of the features, ``text`` a
            string, ``table`` and ``series`` float32 (rows, columns).
        tensor: float32 or integers, in the shape of the input.
        tolerance: largest difference of a value: what float32 rounds.
    """

    raw: Array | str
    tensor: Array
    tolerance: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A checked model file, and all that is known of it.

    Attributes:
        identifier: its name as a word that every language takes.
        inputs, outputs: in the order of the card.
        feed: of the self-test, in the order of ``inputs`` and as the file takes them.
        expected: the first values of each output for that feed as real numbers, in the order of ``outputs``; empty for
            an output of which the card promises nothing.
        tolerance: largest difference of any of them.
        samples: by input name, for inputs that are made of a raw sample.
        labels: class names, empty for a task without.
        versions: of the packages that made and proved the file, by name.
    """

    artifact: Artifact
    card: Card
    identifier: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    feed: tuple[Array, ...]
    expected: tuple[Array, ...]
    tolerance: float
    samples: Mapping[str, Sample]
    labels: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def content(self) -> bytes:
        """The bytes of the model file."""
        return self.artifact.path.read_bytes()

    @property
    def model_file(self) -> str:
        """What the model is called in every package."""
        return f"model.{self.artifact.format}"

    @property
    def made(self) -> tuple[Tensor, ...]:
        """The inputs that are made of a raw sample."""
        return tuple(one for one in self.inputs if one.rule is not None)


@dataclass(frozen=True, slots=True)
class Package:
    """What a target made.

    Attributes:
        files: path within the folder -> content.
        notes: what the user should know, one sentence each.
        figures: what the target measured, for the document (bytes of an arena, operators to register).
    """

    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] | None = None


class Target(ABC):
    """A value of ``--for``. An entry of the table ``packages``.

    Attributes:
        formats: of model files that it takes.
        kinds: of inputs whose preprocessing it has as code; others are fed as arrays.
        language: what the code is written in, for messages.
    """

    formats: ClassVar[tuple[Format, ...]]
    kinds: ClassVar[tuple[str, ...]]
    language: ClassVar[str]

    def check(self, subject: Subject) -> None:  # noqa: B027  # a target that takes every file has nothing to check
        """Refuses a file that it cannot package, before anything is made.

        Raises:
            UnsupportedError: what it cannot do, and the way out.
        """

    @abstractmethod
    def make(self, subject: Subject) -> Package:
        """The files of the package; a README.md is among them.

        Raises:
            EdgekitError: something that is needed failed.
        """


def template(name: str, **values: str) -> str:
    """The file ``templates/NAME`` with ``@@KEY@@`` replaced by each of ``values``.

    Raises:
        KeyError: it asks for something that is not given.
    """
    text = files("edgekit.packaging").joinpath("templates", *name.split("/")).read_text(encoding="utf-8")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def identifier(name: str) -> str:
    """``name`` as a word of ASCII letters, digits and underscores that begins with a letter."""
    word = re.sub(r"[^0-9a-zA-Z]+", "_", name).strip("_").lower() or "model"
    return word if word[0].isalpha() else f"model_{word}"


def score_map(subject: Subject) -> tuple[Tensor, int] | None:
    """The output of a segmenter with scores a pixel, and the axis of its classes; None where there is none."""
    if subject.card.task.kind != "segmentation":
        return None
    for one in subject.outputs:
        if len(one.shape) == 4:
            first, last = one.shape[1], one.shape[3]
            labels = len(subject.labels)
            return one, 1 if first == labels else 3 if last == labels else 1 if first <= last else 3
    return None


def fixed_sizes(subject: Subject, target: str) -> None:
    """Refuses an input whose axes but the first are not all numbers.

    Raises:
        UnsupportedError: with the way out.
    """
    for spec in subject.card.signature.inputs:
        free = [axis for axis in spec.shape[1:] if isinstance(axis, str)]
        if free:
            raise UnsupportedError(
                f"the input {spec} has the free axis {free[0]!r}, and --for {target} lays out its memory once; export "
                f"the network with a fixed size: --shape {free[0]}=N without --dynamic"
            )


def head(subject: Subject, target: str) -> str:
    """One line that says where generated code comes from, without quotes or ends of comments in it."""
    made = ", ".join(f"{name} {version}" for name, version in subject.versions.items())
    line = f"{subject.card.name}, for {target}; made with {made}"  # names and versions come with the file
    return "".join(c if c.isalnum() or c in " .,;-_:()+" else "_" for c in line)
