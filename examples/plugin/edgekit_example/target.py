"""``package --for npz``: the file and the arrays of its self-test, for a test bench that reads numpy's files."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np

from edgekit.packaging.base import Package, Subject, Target
from edgekit.packaging.readme import readme
from edgekit.types import Format


class Npz(Target):
    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    kinds: ClassVar[tuple[str, ...]] = ("wave",)  # its reader is numpy.loadtxt; files of other kinds are refused
    language: ClassVar[str] = "numpy"

    def make(self, subject: Subject) -> Package:
        given = {one.name: array for one, array in zip(subject.inputs, subject.feed, strict=True)}
        wanted = {one.name: values for one, values in zip(subject.outputs, subject.expected, strict=True)}
        files = {
            subject.model_file: subject.content,
            "README.md": readme(subject, "npz", "numpy.load reads the arrays."),
        }
        for name, arrays in (("inputs.npz", given), ("outputs.npz", wanted)):
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            files[name] = buffer.getvalue()
        return Package(files)


TARGET = Npz()
