"""The command ``onnx2tf`` of the conversion worker: onnx2tf writes a TFLite file of an ONNX file, without TensorFlow.

It runs in an environment of its own, on the device layer and onnx2tf.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from typing import Any

import onnx2tf

from edgekit.leftovers import scratch_folder

_LINES = 3
"""Last lines of what it printed that are kept where it ends without an exception of its own."""


class Ended(Exception):
    """onnx2tf has left by ``sys.exit``, with what it said before."""


def convert(request: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """One conversion; every input keeps the layout it has in the file.

    ``request``: ``model``, the path of an ONNX file whose sizes are fixed; ``inputs``, their names.

    Returns:
        The file, and the version of onnx2tf.
    """
    said = StringIO()
    with scratch_folder() as folder:
        try:
            with redirect_stdout(said):
                onnx2tf.convert(
                    input_onnx_file_path=request["model"],
                    output_folder_path=str(folder),
                    keep_shape_absolutely_input_names=list(request["inputs"]),
                    copy_onnx_input_output_names_to_tflite=True,
                    tflite_backend="flatbuffer_direct",
                    non_verbose=True,
                )
        except SystemExit as error:
            lines = [line for line in map(_plain, said.getvalue().splitlines()) if line]
            raise Ended("; ".join(lines[-_LINES:]) or f"exit status {error.code}") from error
        (made,) = folder.glob("*_float32.tflite")
        return made.read_bytes(), [version("onnx2tf")]


def headline(error: Exception) -> str:
    """The type of an error and the first line it says."""
    lines = [line for line in map(_plain, str(error).splitlines()) if line]
    said = lines[0] if lines else "no message"
    return said if isinstance(error, Ended) else f"{type(error).__name__}: {said[:400]}"


def _plain(line: str) -> str:
    """A line without the codes that colour it."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
