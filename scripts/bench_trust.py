"""The bars of docs/bench.md, one by one; see scripts/bench_trust."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_trust_parts as parts
import numpy as np
from bench_trust_parts import Row

from edgekit.bench.environment import environment
from edgekit.results.compare import MARGIN

Verdict = tuple[bool, str]
PARENT_CORES = 0.02
AGREE = 0.03
DETECTABLE_FACTOR = 1.5
TABLE = "<!-- bars -->"


@dataclass(frozen=True)
class Bar:
    """``take``: one more measurement; ``judge``: all of them so far against the bar."""

    name: str
    wanted: str
    seconds: float
    count: int
    take: Callable[[Path, float, int], Row]
    judge: Callable[[Sequence[Row]], Verdict]


def _told(rows: Sequence[Row]) -> str:
    counts = Counter(row["verdict"] for row in rows)
    noisy = sum("noisy" in row["noise"] for row in rows)
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) + f" ({noisy} runs noisy)"


def judge_same(rows: Sequence[Row]) -> Verdict:
    called = sum(row["verdict"] in ("slower", "faster") for row in rows)
    spread = float(np.std([np.log(row["ratio"]) for row in rows]))
    said = f"{called} of {len(rows)} called different: {_told(rows)}; ratio ±{spread:.2%} (1 sd)"
    return called <= 0.05 * len(rows), said


def judge_slower(rows: Sequence[Row]) -> Verdict:
    called = sum(row["verdict"] == "slower" for row in rows)
    ratio = float(np.median([row["ratio"] for row in rows]))
    return called >= 0.95 * len(rows), f"{called} of {len(rows)} called slower: {_told(rows)}; median ratio {ratio:.3f}"


def judge_detectable(rows: Sequence[Row]) -> Verdict:
    """Of each file: what is stated for four in five, against the slowdown at which that many of its pairs say so."""
    told, passed = [], True
    for model in sorted({row["model"] for row in rows}):
        mine = [row for row in rows if row["model"] == model]
        stated = float(np.median([row["detectable"] for row in mine]))
        needed = []
        for row in mine:
            half = np.log(row["high"] / row["low"]) / 2
            needed.append(max(half, MARGIN - half) - np.log(row["ratio"]))
        observed = float(np.quantile(needed, 0.8))
        passed = passed and 1 / DETECTABLE_FACTOR <= stated / observed <= DETECTABLE_FACTOR
        told.append(f"{model} stated {stated:.1%}, observed {observed:.1%} ({len(mine)} pairs)")
    return passed, "; ".join(told)


def judge_parent(rows: Sequence[Row]) -> Verdict:
    shares = [row["parent_cores"] for row in rows]
    return max(shares) < PARENT_CORES, f"median {np.median(shares):.2%}, largest {max(shares):.2%} of a core"


def judge_agreement(rows: Sequence[Row]) -> Verdict:
    ratios: dict[str, list[float]] = {}
    for row in rows:
        ratios.setdefault(row["model"], []).append(row["ratio"])
    ms = {row["model"]: row["other_ms"] for row in rows}
    middle = {model: float(np.median(values)) for model, values in ratios.items()}
    told = ", ".join(f"{model} {ms[model]:.3g} ms: {value - 1:+.1%}" for model, value in sorted(middle.items()))
    return all(abs(value - 1) <= AGREE for value in middle.values()), told


def judge_occasions(rows: Sequence[Row]) -> Verdict:
    """Every p50 within the interval that each other occasion of its file stated."""
    inside = outside = 0
    for one in rows:
        for other in rows:
            if one is not other and one["model"] == other["model"]:
                held = other["low"] <= one["p50"] <= other["high"]
                inside, outside = inside + held, outside + (not held)
    noisy = sum("noisy" in row["noise"] for row in rows)
    files = sorted({row["model"] for row in rows})
    share = inside / max(inside + outside, 1)
    logs = [np.log([row["p50"] for row in rows if row["model"] == file]) for file in files]
    moved = float(np.sqrt(np.mean([values.var(ddof=1) for values in logs if values.size > 1] or [0.0])))
    wide = float(np.median([np.log(row["high"] / row["low"]) / 2 for row in rows] or [0.0]))
    said = (
        f"{inside} of {inside + outside} ({len(rows)} runs of {len(files)} files, {noisy} noisy); "
        f"a file's p50 moved by {moved:.1%} (1 sd), median interval ±{wide:.1%}"
    )
    return inside + outside > 0 and share >= 0.95, said


def judge_wall(rows: Sequence[Row]) -> Verdict:
    over = max(row["wall_s"] - row["allowed_s"] for row in rows)
    walls = [row["wall_s"] for row in rows]
    said = f"{np.median(walls):.1f} s, at most {max(walls):.1f} s of {rows[0]['allowed_s']:g} s allowed"
    return over <= 0, f"{said} ({len(rows)} runs)"


BARS = (
    Bar("same", "A/A: at most 5 of 100 called different, 3 s", 3, 100, parts.same_file, judge_same),
    Bar("slower", "5% more work: slower in at least 95 of 100, 10 s", 10, 100, parts.five_percent, judge_slower),
    Bar("loaded", "the same with one core loaded part-time", 10, 100, parts.five_percent_loaded, judge_slower),
    Bar("bare-loop", "p50 within 3% of a bare loop", 3, 30, parts.with_bare_loop, judge_agreement),
    Bar("litert-tool", "p50 within 3% of ai-edge-litert's benchmark", 6, 5, parts.with_litert_tool, judge_agreement),
    Bar("occasions", "three occasions: p50 within each other's interval", 3, 15, parts.one_occasion, judge_occasions),
    Bar("wall", "at most 3 s x cells + 5 s from start to end", 3, 5, parts.end_to_end, judge_wall),
)
DERIVED = (
    ("detectable", "smallest detectable effect within a factor of 1.5", judge_detectable),
    ("parent", "parent under 2% of a core", judge_parent),
)
"""Bars that are read off the rows of ``same``."""


def read(folder: Path, name: str) -> list[Row]:
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(bar: Bar, folder: Path, count: int, seconds: float, until: float) -> list[Row]:
    """Takes what is missing up to ``count``, each row written as it is taken."""
    rows = read(folder, bar.name)
    while len(rows) < count and datetime.datetime.now().timestamp() < until:
        row = bar.take(folder, seconds, len(rows))
        rows.append(row)
        with open(folder / f"{bar.name}.jsonl", "a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        shown = {key: row[key] for key in ("model", "verdict", "ratio", "p50", "wall_s") if key in row}
        print(f"  {bar.name} {len(rows)}/{count}: {shown}", file=sys.stderr, flush=True)
    return rows


def report(folder: Path) -> list[tuple[str, str, str, str]]:
    """One row a bar: name, what is wanted, what was found, pass or fail."""
    table = []
    for name, wanted, judge, source in [
        *((bar.name, bar.wanted, bar.judge, bar.name) for bar in BARS),
        *((name, wanted, judge, "same") for name, wanted, judge in DERIVED),
    ]:
        rows = read(folder, source)
        if not rows:
            table.append((name, wanted, "not measured", "–"))
            continue
        passed, found = judge(rows)
        table.append((name, wanted, found, "pass" if passed else "FAIL"))
    return table


def write_into(document: Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Replaces the table between the two marks of docs/bench.md."""
    text = document.read_text(encoding="utf-8")
    before, mark, rest = text.partition(TABLE)
    _, end, after = rest.partition(TABLE)
    if not mark or not end:
        raise SystemExit(f"{document} has no two {TABLE} marks")
    found = environment()
    when = datetime.datetime.now().astimezone().date().isoformat()
    where = f"{found['cpu']}, {found['cores']} cores, {found['os']}, {when}; load at the end {os.getloadavg()[1]:.1f}."
    lines = [where, "", "| bar | wanted | found | |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    document.write_text(before + TABLE + "\n\n" + "\n".join(lines) + "\n\n" + TABLE + after, encoding="utf-8")


def main() -> int:
    names = [bar.name for bar in BARS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=names, help="only this one; may be repeated (default: all)")
    parser.add_argument("--count", type=int, help="measurements of each part (default: the bar's own)")
    parser.add_argument("--seconds", type=float, help="seconds a cell (default: the bar's own)")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop taking new measurements after this long")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_trust"), help="where rows are kept")
    parser.add_argument("--report", action="store_true", help="measure nothing, judge what is there")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/bench.md")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    until = datetime.datetime.now().timestamp() + 60 * options.minutes
    for bar in BARS if not options.report else ():
        if options.part is None or bar.name in options.part:
            measure(bar, folder, options.count or bar.count, options.seconds or bar.seconds, until)
    rows = report(folder)
    for name, wanted, found, verdict in rows:
        print(f"{verdict:4}  {name}: {wanted}\n      {found}")
    if options.write:
        write_into(Path(__file__).parent.parent / "docs" / "bench.md", rows)
    return int(any(verdict == "FAIL" for *_, verdict in rows))


if __name__ == "__main__":
    sys.exit(main())
