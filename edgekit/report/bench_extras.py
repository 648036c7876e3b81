"""What the bench prints of a cell beside its times: what the cell says of itself, then what each extra found."""

from __future__ import annotations

from typing import Any

from edgekit.extras.base import extras, loads, short
from edgekit.options.base import flag_of
from edgekit.options.bench import BenchOptions
from edgekit.report.against import account_line, against_rows
from edgekit.report.text import ms
from edgekit.results.bench import Entry
from edgekit.results.measures import Failed


def extra_report(entry: Entry) -> list[Any]:
    """Everything there is of a cell beside its times, lines before tables."""
    parts: list[Any] = [*compressed_lines(entry), *transfer_lines(entry), *ledger_lines(entry)]
    for scenario in loads().values():
        if scenario.key in entry.extras:
            parts += scenario.report(entry, entry.extras[scenario.key])
    for name, extra in extras().items():
        found = entry.extras.get(name)
        if isinstance(found, Failed):
            parts.append(f"{short(entry.model)}: {flag_of(BenchOptions, name)} failed: {found.error.message}")
        elif found is not None:
            parts += extra.report(entry, found)
    return parts


def transfer_lines(entry: Entry) -> list[str]:
    """Of a run on an accelerator: what its time does not hold, and how accurate fewer bits were."""
    found, test = entry.transfer, entry.selftest
    name, lines = short(entry.model), []
    if found is not None:
        p50, sent, got = found.p50_ms, found.bytes_in, found.bytes_out
        own = f"; by its own clock the run takes {ms(p50.device)} ms" if p50.device is not None else ""
        lines.append(
            f"{name}: the time is of the run on {entry.device.chip or 'the accelerator'}; copies take "
            f"{ms(p50.copy_in)} ms in ({sent:,} bytes) and {ms(p50.copy_out)} ms out ({got:,} bytes){own}"
        )
    if test is not None and test.precision is not None:
        lines.append(
            f"{name} in {test.precision}: its self-test is off by {test.max_abs:.3g}, {test.tolerance:.3g} "
            "is allowed: passed"
        )
    return lines


def compressed_lines(entry: Entry) -> list[str]:
    """What the card of a compressed file says of it: the integer account, and the comparison with its parent."""
    found = entry.compressed
    if found is None:
        return []
    lines = [f"{short(entry.model)}: {account_line(found.account)}"]
    if found.parent is not None:
        rows = [f"{name} {after} ({said})" for name, _, after, said in against_rows(entry.bytes, found.parent)]
        lines.append(f"{short(entry.model)}, when it was made, against its parent: {'; '.join(rows)}")
    return lines


def ledger_lines(entry: Entry) -> list[str]:
    """Who ran the operators of a cell, where one was left to another than the delegate."""
    delegation = entry.delegation
    if delegation is None or not delegation.left:
        return []
    parts = []
    for row in delegation.shares:
        time = "" if row.share_time is None else f", {100 * row.share_time:.1f}% of the time"
        parts.append(f"{row.by} {row.nodes} of {delegation.nodes} operators{time}")
    kinds = ", ".join(sorted({row.type for row in delegation.left}))
    return [f"{short(entry.model)}: {'; '.join(parts)}; left: {kinds}"]
