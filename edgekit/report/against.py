"""How a compressed file compares with its parent, as its card says it (``parent``), on the screen."""

from __future__ import annotations

from typing import Any

from edgekit.quality.paired import FEWEST
from edgekit.report.text import SHARES, figure, lost, share, size, table
from edgekit.results.compressed import Coverage, FidelityFigures, MatchRatio, Parent, QualityChange, TimeRatio

Row = tuple[object, ...]
COLUMNS = ("", "before", "after", "")
NOT_TIMED = "its time was not measured against its parent's: give --seconds"


def against_rows(bytes_after: int, parent: Parent) -> list[Row]:
    """Bytes, quality and time, one row each: before, after, change with its 95% interval."""
    before, quality, time = parent.bytes, parent.quality, parent.time
    rows: list[Row] = [("bytes", size(before), size(bytes_after), f"{bytes_after / before:.2f}×")]
    if quality is not None:
        values = (figure(quality.metric, value) for value in (quality.before, quality.after))
        rows.append((f"{quality.metric} on {quality.data}", *values, change(quality)))
    if time is not None:
        rows.append((f"time on {time.device.name}", "1", time_said(time), time.verdict))
    return rows


def change(quality: QualityChange) -> str:
    """The change of quality with its interval: ``-0.04 points (-0.10 to 0.02)``, ``3.10% worse (0.40% to 5.90%)``."""
    metric, interval = quality.metric, quality.drop_ci95
    said = lost(metric, quality.drop, quality.before, quality.after)
    if interval is None:
        return said
    if said.endswith(("worse", "better", "%")):
        return f"{said} ({' to '.join(f'{100 * end:+.2f}%' for end in interval)})"
    scale = 100 if metric in SHARES else 1
    low, high = -scale * interval[1], -scale * interval[0]
    return f"{said} ({low:+.2f} to {high:+.2f})" if metric in SHARES else f"{said} ({low:+.4g} to {high:+.4g})"


def time_said(time: TimeRatio | MatchRatio) -> str:
    """``0.57 (0.55 to 0.58)``, or why there is no ratio."""
    if time.ratio_p50 is None:
        return time.reason or "not measured"
    return f"{time.ratio_p50:.2f}" + (f" ({time.ci95[0]:.2f} to {time.ci95[1]:.2f})" if time.ci95 else "")


def account_line(account: Coverage) -> str:
    """The integer account in a sentence."""
    hybrid, macs = account.hybrid_operators, account.integer_macs_share
    how = f" ({hybrid} hybrid: real inputs, quantized as they run)" if hybrid else ""
    of = f", with {share(macs)} of the multiply-accumulates" if macs is not None else ""
    return (
        f"{account.integer_operators} of {account.operators} operators run on integers{how}{of}; "
        f"{share(account.weight_bytes_integer_share)} of the weight bytes are integers"
    )


def inserted_line(parent: Parent) -> str:
    """Which conversions the file has that its parent has not."""
    if not parent.inserted:
        return "no conversion or transpose was inserted"
    return f"inserted: {', '.join(f'{count} {kind}' for kind, count in parent.inserted.items())}"


def fidelity_parts(fidelity: FidelityFigures | None) -> list[Any]:
    """Which samples the outputs were compared on, and one row an output: ratio, cosine, agreement, worst channel, dead
    channels. Nothing for a card of an earlier version."""
    if fidelity is None:
        return []
    rows: list[Row] = []
    for one in fidelity.outputs:
        ratio, cosine, agreed, worst = one.snr_db, one.cosine, one.top1_agreement, one.worst_channel_db
        rows.append(
            (
                one.name,
                None if ratio is None else f"{ratio:.1f} dB",
                None if cosine is None else f"{cosine:.4f}",
                None if agreed is None else share(agreed),
                None if worst is None else f"{worst:.1f} dB (channel {one.worst_channel} of {one.channels})",
                one.dead_channels or None,
            )
        )
    columns = ("output", "signal to noise", "cosine", "same largest", "worst channel", "dead channels")
    return [f"Outputs beside those of the parent, on {fidelity.data}:", table(columns, rows)]


def missing_lines(parent: Parent) -> list[str]:
    """What was not measured, and how to have it."""
    lines = []
    if parent.quality is None:
        lines.append("quality was not measured: give --data with labels")
    elif parent.quality.drop_ci95 is None:
        few = parent.quality.total < FEWEST
        why = "it takes ten samples or more" if few else "this figure has none, or takes too long on parts of them"
        lines.append(f"no interval for the change of quality: {why}")
    if parent.time is None:
        lines.append(NOT_TIMED)
    return lines
