"""Environments beside edgekit's own: interpreters that have packages whose pins are not edgekit's.

Each lies in a folder beside that of edgekit (``.venv-openvino``), or is named by a variable
(``EDGEKIT_OPENVINO_PYTHON``). A package that is installed in edgekit's own environment is used there.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgekit.errors import RuntimeMissingError


@dataclass(frozen=True, slots=True)
class Environment:
    """One of them.

    Attributes:
        name: ``openvino``: what folder and variable are called after.
        module: what is imported, by which it is known whether this environment has it.
        packages: what pip installs there.
        used_for: what edgekit does with it.
        creator: the interpreter that makes it, where not any of 3.11 or newer does.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    used_for: str
    creator: str = "python3"

    @property
    def variable(self) -> str:
        """The environment variable that names its interpreter."""
        return f"EDGEKIT_{self.name.upper()}_PYTHON"

    @property
    def folder(self) -> str:
        """Where it is looked for, beside the folder of edgekit's environment."""
        return f".venv-{self.name}"

    @property
    def install(self) -> str:
        """The commands that bring it: in the folder that is found, or told by the variable where that is elsewhere."""
        folder = self.folder if sys.prefix == sys.base_prefix else str(Path(sys.prefix).parent / self.folder)
        made = f"{self.creator} -m venv {folder} && {folder}/bin/python -m pip install {' '.join(self.packages)}"
        if sys.prefix == sys.base_prefix:
            return f"{made} && export {self.variable}=$PWD/{folder}/bin/python"
        return made

    def apart(self) -> str | None:
        """Its interpreter in an environment beside this one, or None.

        Raises:
            RuntimeMissingError: the variable names no program.
        """
        named = os.environ.get(self.variable)
        if named:
            python = os.path.abspath(os.path.expanduser(named))  # the link is kept: it belongs to its environment
            if not os.access(python, os.X_OK) or os.path.isdir(python):
                raise RuntimeMissingError(
                    f"{self.variable} names {named}, which is not a program that can be run: {self.install}"
                )
            return python
        beside = Path(sys.prefix).parent / self.folder / "bin" / "python"
        return str(beside) if os.access(beside, os.X_OK) else None

    def python(self) -> str | None:
        """The interpreter that has its packages: this one where they are installed here, else :meth:`apart`.

        Raises:
            RuntimeMissingError: the variable names no program.
        """
        return sys.executable if find_spec(self.module) is not None else self.apart()


TFLITE = Environment(
    "tflite", "tflite_runtime", ("tflite-runtime==2.14.0", "'numpy<2'"), "run .tflite with numpy 1", "python3.11"
)
FLEX = Environment(
    "flex", "tensorflow", ("tensorflow-cpu==2.18.1",), "prove .tflite files with Flex operators", "python3.11"
)
"""A TensorFlow that brings Flex operators: files that need them are proved there."""
ONNX2TF = Environment("onnx2tf", "onnx2tf", ("onnx2tf==2.6.9",), "export model.onnx --to tflite", "python3.12")
TFLM = Environment("tflm", "tflite_micro", ("tflite-micro",), "measure the arena of package --for mcu")
OPENVINO = Environment("openvino", "openvino", ("openvino==2026.4.1",), "run .onnx and .tflite by OpenVINO")
EXECUTORCH = Environment(
    "executorch", "executorch", ("torch==2.13.0", "executorch==1.5.1", "'torchao<0.19'"), "export and run .pte"
)
MEDIAPIPE = Environment("mediapipe", "mediapipe", ("mediapipe==1.2.3",), "try files of export --mediapipe as apps do")
ENVIRONMENTS = (TFLITE, FLEX, ONNX2TF, TFLM, OPENVINO, EXECUTORCH, MEDIAPIPE)
