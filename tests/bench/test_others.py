"""Who else used the processor: a real process that does, and made-up counters."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from edgekit.bench.environment import UNKNOWN
from edgekit.bench.others import Snapshot, between, snapshot
from edgekit.results.bench import Busy, Others


def test_by_hand() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    before = Snapshot(0, {1: ("init", 100), 7: ("worker", 0)}, steal=5)
    after = Snapshot(2_000_000_000, {1: ("init", 100), 7: ("worker", 2 * ticks), 9: ("make", ticks)}, steal=5 + ticks)
    found = between(before, after, own=[7])
    assert found == Others(seconds=2.0, cores=0.5, busiest=(Busy(name="make", pid=9, cores=0.5),), steal=0.5)


def test_a_system_that_does_not_tell() -> None:
    found = between(Snapshot(0, {}, None), Snapshot(10**9, {}, None), own=[])
    assert (found.cores, found.busiest, found.steal) == (UNKNOWN, UNKNOWN, UNKNOWN)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_busy_process_is_seen_unless_it_is_ours() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            before = snapshot()
            time.sleep(0.5)
            after = snapshot()
        finally:
            spinning.kill()
    seen = after.processes[spinning.pid][1] - before.processes[spinning.pid][1]
    assert seen > 0
    assert between(before, after, own=[]).cores > between(before, after, own=[spinning.pid]).cores
