"""``edgekit export``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.export import ExportOptions


@verb_command(ExportOptions, log=True)
def command(**options: Any) -> None:
    """Converts a network to ONNX, TFLite or PT2, proves it, publishes it.

    SOURCE is a zoo name, a checkpoint, file.py:factory, package.module:factory, a .pt2, .onnx or .keras file, a
    SavedModel folder, timm:NAME or hf:NAME_OR_FOLDER.
    """
    from edgekit.pipeline.export import export
    from edgekit.report.export import render_export

    emit("export", export(**options), render=render_export)
