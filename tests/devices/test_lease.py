"""Leases: one holder at a time on a machine, gone with its process, taken over when its time is up."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices import WorkerClient, open_worker
from edgekit.devices.lease import LONGEST_S, Lease, holder
from edgekit.errors import DeviceError
from edgekit.pipeline.bench import leases
from edgekit.pipeline.bench.leases import leased
from edgekit.results.base import to_json


@pytest.fixture(autouse=True)
def _a_lease_of_the_tests_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_LEASE", str(tmp_path / "lease"))
    return tmp_path / "lease"


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerClient]:
    """A worker on this machine, as if it were a board that others use."""
    monkeypatch.setattr(leases, "ASK_EVERY_S", 0.1)
    with open_worker("cpu") as client:
        yield client


def test_one_holder_at_a_time() -> None:
    first, second = Lease(), Lease()
    assert first.take("ann@laptop", 60) is None and first.mine()
    found = second.take("bob@desk", 60)
    assert found is not None and found["owner"] == "ann@laptop" and 50 < found["left_s"] <= 60
    assert not second.mine() and holder() is not None
    first.release()
    assert holder() is None and second.take("bob@desk", 60) is None


def test_it_goes_with_its_process() -> None:
    with open_worker("cpu") as worker:
        assert worker.lease("ann", 60) is None and worker.lease_is_mine()
        with open_worker("cpu") as other:
            found = other.holder()
            assert found is not None and found["owner"] == "ann"
        os.kill(worker.hello["pid"], 9)
        deadline = time.monotonic() + 20
        while holder() is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert holder() is None


def test_after_its_time_it_may_be_taken_over_and_its_holder_sees_that() -> None:
    first, second = Lease(), Lease()
    assert first.take("ann", -1) is None
    assert second.take("bob", 60) is None and second.mine() and not first.mine()


def test_a_file_that_says_nothing_is_a_holder_all_the_same(tmp_path: Path) -> None:
    first = Lease()
    assert first.take("ann", 60) is None
    (tmp_path / "lease").write_text("{")
    found = Lease().take("bob", 60)
    assert found is not None and found["owner"] == "somebody"


@pytest.mark.parametrize(
    ("text", "owner", "left"),
    [
        ('{"owner": "a", "since_s": 0, "until_s": 1e300}', "a", LONGEST_S),
        ('{"owner": "a", "since_s": 0, "until_s": Infinity}', "somebody", 0),
        ('{"owner": "a", "since_s": NaN, "until_s": 1}', "somebody", 0),
        (f'{{"owner": "a", "since_s": 0, "until_s": {"9" * 400}}}', "somebody", 0),
        ("[" * 4096, "somebody", 0),
        ("[1]", "somebody", 0),
        ('{"owner": 5, "since_s": -1e300, "until_s": 1e9}', "5", LONGEST_S),
        (f'{{"owner": "{"x" * 3000}", "since_s": 0, "until_s": 1e9}}', "x" * 200, LONGEST_S),
    ],
)
def test_what_others_wrote_there_is_believed_as_far_as_it_is_a_holder(
    tmp_path: Path, text: str, owner: str, left: float
) -> None:
    first = Lease()
    assert first.take("ann", 60) is None
    (tmp_path / "lease").write_text(text)
    found = Lease().take("bob", 60)
    assert (
        found is not None and (found["owner"], found["left_s"]) == (owner, left) and json.dumps(found, allow_nan=False)
    )


@pytest.mark.parametrize("what", ["fifo", "link", "folder"])
def test_what_is_not_a_file_is_not_locked(tmp_path: Path, what: str) -> None:
    place = tmp_path / "lease"
    if what == "fifo":
        os.mkfifo(place)
    elif what == "link":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
    with pytest.raises(DeviceError, match="cannot be locked"):
        Lease().take("ann", 60)
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_waits_for_the_one_before(
    door: WorkerClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "edgekit")
    before = Lease()
    assert before.take("ann@laptop", 60) is None
    monkeypatch.setattr(leases, "pause", lambda seconds: before.release())  # the other run ends while it waits
    waited: list[str] = []
    with leased([door, door], 1.0, lambda: waited.append("once")) as told:
        assert holder() is not None and told == [] and waited == ["once"]
    assert holder() is None
    (row,) = told
    assert row.kept and row.device == "cpu, cpu" and row.busy_before is not None
    assert "cpu is used by ann@laptop" in caplog.text and json.dumps(to_json(row))


def test_a_device_that_stays_in_use_is_an_error(door: WorkerClient) -> None:
    before = Lease()
    assert before.take("ann@laptop", 60) is None
    with pytest.raises(DeviceError, match="cpu is used by ann@laptop"), leased([door], 1.0, wait_s=0.3):
        pass


def test_a_lease_that_was_taken_over_is_said(
    door: WorkerClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with leased([door], 1.0) as told:
        (tmp_path / "lease").unlink()
    assert told[0].kept is False and "somebody took the lease over" in caplog.text


def test_a_device_that_is_gone_at_the_end_costs_nothing_of_what_was_timed(
    door: WorkerClient, caplog: pytest.LogCaptureFixture
) -> None:
    with leased([door], 1.0) as told:
        os.kill(door.hello["pid"], 9)
    assert told[0].kept is False and "SIGKILL" in (told[0].lost or "")
    assert "lost before it could be given up" in caplog.text


def test_this_machine_is_not_leased() -> None:
    with leased([], 1.0) as told:
        assert holder() is None
    assert told == []
