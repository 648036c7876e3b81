"""The process that runs TensorFlow's converter: ``python -m edgekit.converters.tensorflow_worker FOLDER TARGET``.

Writes TARGET and one JSON line: ``{"flex": [operators]}``, ``{"error": text}``, or ``{"errno": number}`` where the file
cannot be written. What TensorFlow prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

SERVING = "serving_default"


def main() -> None:
    """Converts one SavedModel and answers on standard output with one JSON document."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    folder, target = sys.argv[1:]
    try:
        content, flex = convert(folder)
        Path(target).write_bytes(content)
        answer: dict[str, Any] = {"flex": flex}
    except OSError as error:
        answer = {"errno": error.errno} if error.errno else {"error": str(error)}
    except Exception as error:  # every failure of the converter is an answer; the parent names it
        answer = {"error": told(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def convert(folder: str) -> tuple[bytes, list[str]]:
    """The file, and the Flex operators it needs: none, unless the converter says that it cannot do without."""
    import tensorflow as tf

    def converter() -> Any:
        names = list(tf.saved_model.load(folder).signatures)
        chosen = [SERVING] if SERVING in names else names
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=chosen)

    try:
        return converter().convert(), []
    except Exception as error:
        if "ERROR_NEEDS_FLEX_OPS" not in str(error):
            raise
    again = converter()
    again.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    content = again.convert()
    return content, sorted({match.decode() for match in re.findall(rb"Flex[A-Z]\w+", content)})


def told(error: Exception) -> str:
    """The operators the converter stumbled over, else the first line of what it said."""
    text = str(error)
    for kind in ("Custom ops", "TF Select ops"):
        match = re.search(rf"{kind}: (.+)", text)
        if match:
            return f"TFLite has no operator for {match[1].strip()}, with or without Flex"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


if __name__ == "__main__":
    main()
