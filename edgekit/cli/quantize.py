"""``edgekit quantize``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.quantize import QuantizeCommand


@verb_command(QuantizeCommand, page=True, log=True)
def command(*, dry_run: bool = False, **options: Any) -> None:
    """Makes a smaller file with integer or half-precision weights.

    MODEL is a float .onnx or .tflite file, or a .pt2, whose int8 file is an ExecuTorch program (-o X.pte). Ranges come
    from the train split of --data, quality before and after from its test split; the time ratio to its parent comes
    with a verdict. A file that grew, lost more than --max-drop, is slower than its parent, wrong, or too far from its
    parent (--min-snr) is not published (exit 1).

    --scheme auto tries every scheme in every runtime of a device and publishes the fastest file within --max-drop, the
    float one where none is faster. There MODEL is a float file, one of each format, or a network (exported to both). An
    interrupted run resumes with its finished trials.
    """
    from edgekit.pipeline.quantize import plan_mixed, plan_quantize
    from edgekit.pipeline.schemes import quantize
    from edgekit.report.auto import render_auto
    from edgekit.report.quantize import render_plan, render_quantize, render_quantize_plan

    if options.get("mixed") and str(options["out"]).lower().endswith(".json"):
        emit("quantize", plan_mixed(**options), render=render_plan)
    elif dry_run:
        emit("quantize", plan_quantize(**options), render=render_quantize_plan)
    else:
        emit("quantize", quantize(**options), render=render_auto if options["scheme"] == "auto" else render_quantize)
