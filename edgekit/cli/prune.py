"""``edgekit prune``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.prune import PruneOptions


@verb_command(PruneOptions, log=True)
def command(**options: Any) -> None:
    """Removes whole channels, hidden units, heads or residual blocks from a network and fine-tunes what is left.

    SOURCE is a zoo name, a checkpoint (.safetensors), file.py:factory or pkg.mod:factory. Inputs and classes stay as
    they are. A network that lost more than --max-drop, or cannot reach a target, is not published (exit 1).
    """
    from edgekit.pipeline.prune import prune
    from edgekit.report.prune import render_prune

    emit("prune", prune(**options), render=render_prune)
