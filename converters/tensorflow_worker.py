"""The command ``tensorflow`` of the conversion worker: TensorFlow's own converter writes a TFLite file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

SERVING = "serving_default"


def convert(request: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """The file of the SavedModel ``folder``, and the Flex operators it needs: none, unless the converter says that it
    cannot do without."""
    folder = request["folder"]

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


def headline(error: Exception) -> str:
    """The operators the converter stumbled over, else the first line of what it said."""
    text = str(error)
    for kind in ("Custom ops", "TF Select ops"):
        match = re.search(rf"{kind}: (.+)", text)
        if match:
            return f"TFLite has no operator for {match[1].strip()}, with or without Flex"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
