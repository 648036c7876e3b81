"""Which part of a large search saturates, by a discrete-event simulation of ``edgekit optimize --workers``.

    scripts/simulate_search STUDY... [--trials 1000 --workers 50 --devices 5 --batch 250] [--write]

Taken from the trials of finished searches (folders of ``optimize -o``): what making, looking and the files took, drawn
with replacement; the making also 10 and 100 times as long, for networks that train longer than those. Measured here:
what the driver does for a trial (packing, taking back). The rest follows the code: proposals come in batches, each
after the one before; workers make; what they need and give goes over the driver's one link; the driver takes one trial
at a time, its looks run on all devices at once, and it waits for them; in the end each device times its front.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.environment import environment
from edgekit.pipeline.search.parcel import pack
from edgekit.pipeline.search.steps import MakeOrder, make

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "search-scale.md"
LINK = 117e6
"""Bytes a second of the driver's link: 1 Gbit/s."""


@dataclass(frozen=True)
class Measured:
    """Of real trials, in seconds and bytes; ``driver``: of the driver's own work for one."""

    make: Sequence[float]
    look: Sequence[float]
    sent: Sequence[int]
    back: Sequence[int]
    driver: Sequence[float]


def measured(studies: Sequence[Path]) -> Measured:
    """What the trials of finished searches took."""
    make_s: list[float] = []
    look_s: list[float] = []
    sent: list[int] = []
    back: list[int] = []
    driver: list[float] = []
    for study in studies:
        rows = json.loads((study / "optimize.json").read_text(encoding="utf-8"))["trials"]
        for row in rows:
            folder = study / ".study" / "files" / f"{row['number']:04d}"
            if row["state"] != "complete" or not folder.exists():
                continue
            records = [json.loads(one.read_text()) for one in (folder / ".recipe").glob("*.json")]
            made = sum(record["seconds"] for record in records)
            make_s.append(made)
            look_s.append(max(row["seconds"] - made, 0.1))
            sizes = [(folder / record["file"]).stat().st_size for record in records]
            back.append(sum(sizes))
            order = MakeOrder((folder / "recipe.toml").read_text(), folder, study / ".study" / "store")
            start = time.monotonic()
            pack(order)
            make(order)
            driver.append(time.monotonic() - start)
            _, named = pack(replace(order, store=study / "nothing is here"))
            sent.append(sum(map(len, named.values())) + sum(sizes) - row["bytes"])  # all but its last file, at most
    if len(make_s) < 3:
        raise SystemExit(f"{len(make_s)} trials ended well in {', '.join(map(str, studies))}; 3 are needed at least")
    return Measured(make_s, look_s, sent, back, driver)


@dataclass
class Part:
    """Something that does one thing at a time: the driver, the link, a device."""

    free: float = 0.0
    busy: float = 0.0

    def take(self, now: float, seconds: float) -> float:
        """When a job that comes ``now`` is done."""
        self.free = max(now, self.free) + seconds
        self.busy += seconds
        return self.free


@dataclass
class Outcome:
    """Hours of a search, and the share of them that each part works."""

    hours: float
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A search: ``times``: multiplies the making; ``waits``: the driver does nothing else while devices look at a
    file."""

    name: str
    batch: int
    devices: int
    times: int
    waits: bool = True


def simulate(of: Measured, given: argparse.Namespace, case: Case, seed: int) -> Outcome:
    """One search."""
    draw = np.random.default_rng(seed)
    driver, link, looks = Part(), Part(), [Part() for _ in range(case.devices)]
    worked, waited, now, left = 0.0, 0.0, 0.0, given.trials
    while left:
        count = min(case.batch, left)
        left -= count
        events = [(now, False)] * min(given.workers, count)  # when, and whether a file is made; else a worker is free
        heapq.heapify(events)
        while events:
            moment, made = heapq.heappop(events)
            if not made:
                count -= 1
                took = float(draw.choice(of.make)) * case.times
                worked += took
                heapq.heappush(events, (link.take(moment, draw.choice(of.sent) / LINK) + took, True))
                continue
            if count > sum(not other for _, other in events):
                heapq.heappush(events, (moment, False))
            there = link.take(moment, draw.choice(of.back) / LINK)
            taken = driver.take(there, float(draw.choice(of.driver)))
            seen = max(device.take(taken, float(draw.choice(of.look))) for device in looks)
            if case.waits:
                waited += max(seen - driver.free, 0.0)
                driver.free = seen
            now = max(now, seen)
    for device in looks:  # the front: six files and two float ones, one after the other
        device.take(now, given.final)
    end = max(device.free for device in looks)
    shares = {
        "workers": worked / given.workers / end,
        "driver": driver.busy / end,
        "driver and its waits for looks": (driver.busy + waited) / end,
        "busiest device": max(device.busy for device in looks) / end,
        "link": link.busy / end,
    }
    return Outcome(end / 3600, shares)


def table(of: Measured, given: argparse.Namespace) -> list[str]:
    """Rows of the page: as it is, for trainings of several lengths, and what each change would bring."""
    usual = Case("as it is", given.batch, given.devices, 10)
    cases = [
        replace(usual, name="trainings as measured", times=1),
        usual,
        replace(usual, name="trainings 100 times as long", times=100),
        replace(usual, name="--batch 4, the default", batch=4),
        replace(usual, name=f"--batch {given.workers}, one a worker", batch=given.workers),
        replace(usual, name=f"--batch {given.trials}: all at once", batch=given.trials),
        replace(usual, name="one device", devices=1),
        replace(usual, name="looks that the driver does not wait for", waits=False),
    ]
    rows = []
    for case in cases:
        found = [simulate(of, given, case, seed) for seed in range(5)]
        hours = statistics.median(one.hours for one in found)
        shares = {part: statistics.median(one.shares[part] for one in found) for part in found[0].shares}
        cells = " | ".join(f"{shares[part]:.0%}" for part in shares)
        rows.append(f"| {case.name} | {case.times} | {hours:.2f} | {cells} |")
    return rows


def page(of: Measured, given: argparse.Namespace, rows: Sequence[str]) -> str:
    """The page, with what was measured and where."""

    def spread(values: Sequence[float], unit: str, scale: float = 1.0) -> str:
        low, high = np.quantile(values, [0.1, 0.9]) * scale
        return f"{np.median(values) * scale:.3g} {unit} ({low:.3g} to {high:.3g})"

    found = environment()
    lines = [
        "# How far a search scales", "",
        f"Made by `scripts/simulate_search` on {date.today()} ({found['cpu']}, {found['cores']} cores, load "
        f"{os.getloadavg()[0]:.1f} from other work): {given.trials:,} trials, {given.workers} workers, "
        f"{given.devices} devices.", "",
        "## What a trial takes", "",
        f"Of {len(of.make)} trials of real searches, median (10th to 90th percentile):", "",
        f"- making (training, export, quantization): {spread(of.make, 's')}",
        f"- looking at the file on a device: {spread(of.look, 's')}",
        f"- sent to a worker, at most: {spread(of.sent, 'kB', 1e-3)}; back: {spread(of.back, 'kB', 1e-3)}",
        f"- the driver's own work: {spread(of.driver, 's')}", "",
        *([given.note, ""] if given.note else []),
        "## Which part saturates", "",
        "Share of the search's time that each part works, medians of five seeds; ten times the training that was "
        "measured where nothing else is said:", "",
        "| search | training | hours | workers | driver | driver and its waits for looks | busiest device | link |",
        "|---|---:|---:|---:|---:|---:|---:|---:|", *rows, "",
    ]  # fmt: skip
    kept = ROOT / "docs" / "search-ray.json"
    if kept.exists():
        lines += ["## One node and two", "", *measured_nodes(json.loads(kept.read_text(encoding="utf-8"))), ""]
    return "\n".join(lines)


def measured_nodes(figures: dict[str, Any]) -> list[str]:
    """What ``scripts/bench_ray`` found."""
    one, two = (figures["seconds"][key] for key in ("1", "2"))
    same = "the same" if figures["same"] else "not the same"
    return [
        f"`scripts/bench_ray` on {figures['date']} ({figures['cpu']}, {figures['cores']} cores, load before "
        f"{figures['load_before']}): {figures['trials']} trials that train {figures['epochs']} epochs at most took "
        f"{one:.0f} s on one node with one CPU and {two:.0f} s on two, {figures['ratio']:.2f} times as long; the "
        f"files were {same}."
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--devices", type=int, default=5)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--final", type=float, default=120.0, help="seconds of the last run on a device")
    parser.add_argument("--note", default="", help="what else is to be said of the measurements")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = parser.parse_args()
    of = measured(given.studies)
    text = page(of, given, table(of, given))
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
