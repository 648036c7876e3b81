"""Opens the page of a study in Chromium, in a new profile each time, until every plot is drawn."""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import statistics
import tempfile
from datetime import date
from pathlib import Path

from playwright.sync_api import sync_playwright

from edgekit.bench.environment import cpu_model
from edgekit.report.page import page

DOCUMENTS = Path(__file__).resolve().parent.parent / "tests" / "report" / "page" / "documents.py"
DRAWN = "performance.getEntriesByName('drawn')[0].startTime"


def opened(place: Path, times: int) -> list[tuple[float, float]]:
    """From the start of the navigation to the last plot: milliseconds, and those of them that the page itself computed,
    which a busy machine does not lengthen."""
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(times):
            shown = browser.new_context(offline=True).new_page()
            metrics = shown.context.new_cdp_session(shown)
            metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
            shown.goto(place.as_uri())
            shown.wait_for_selector("html[data-drawn]")
            spent = {row["name"]: row["value"] for row in metrics.send("Performance.getMetrics")["metrics"]}
            found.append((float(shown.evaluate(DRAWN)), 1000 * float(spent["ThreadTime"])))
            shown.context.close()
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    made = runpy.run_path(str(DOCUMENTS))
    text = page([made["saved"]("optimize", made["study"](options.trials))])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "page.html")
        place.write_text(text, encoding="utf-8")
        times = opened(place, options.times)
    load = os.getloadavg()[0]
    print(f"{date.today()}, {cpu_model()}, {os.cpu_count()} cores, load {load:.1f}: a study of {options.trials} trials")
    drawn, computed = (statistics.median(one) for one in zip(*times, strict=True))
    size = f"{len(text.encode()):,} bytes"
    print(f"{size}; medians of {len(times)}: drawn after {drawn:.0f} ms, {computed:.0f} ms of them computed")


if __name__ == "__main__":
    main()
