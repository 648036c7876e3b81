from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.bench import environment as room
from edgekit.bench.environment import busy, cpu_model, environment, usable_cores
from edgekit.runtime.cpu import parse_cpuinfo


def test_what_every_document_carries() -> None:
    found = json.loads(json.dumps(environment()))
    wanted = {"cpu", "isa", "cores", "memory_bytes", "os", "python", "versions", "load", "governor", "cgroup"}
    assert wanted <= set(found)
    assert found["cpu"] == cpu_model()
    assert found["versions"]["numpy"]
    assert all(value != "" for value in found.values())  # what cannot be seen is "unknown"


def test_cores_and_busy() -> None:
    assert usable_cores() >= 1
    assert busy() == "unknown" or busy() >= 0


def test_cpu_names_of_other_machines() -> None:
    arm = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd08\n\nModel : Raspberry Pi 4\n"
    assert room._cpu_name(parse_cpuinfo(arm)) == "ARM implementer 0x41, part 0xd08"
    x86 = "model name\t: AMD EPYC\nflags\t: avx2 fma\n\nmodel name\t: other\n"
    assert room._cpu_name(parse_cpuinfo(x86)) == "AMD EPYC"
    assert room._cpu_name(parse_cpuinfo("")) == ""


def test_every_cgroup_above_may_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota of 1.5 cores on the parent, none on the group itself; half a core is one usable core."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    (inner / "memory.max").write_text("1000000\n")
    (inner.parent / "memory.max").write_text("max\n")
    monkeypatch.setattr(room, "_cgroup_path", lambda: (inner, inner.parent, tmp_path))
    assert environment()["cgroup"] == {"cpus": 1.5, "memory_bytes": 1_000_000}
    assert usable_cores() == 1
    (inner.parent / "cpu.max").write_text("50000 100000\n")
    assert usable_cores() == 1
    (inner.parent / "cpu.max").write_text("max 100000\n")
    assert environment()["cgroup"]["cpus"] == "unlimited"
    assert usable_cores() == len(environment()["affinity"])


def test_the_cgroup_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CGROUPS", tmp_path)
    monkeypatch.setattr(room, "_read", lambda path: "0::/a/b" if str(path) == "/proc/self/cgroup" else "")
    room._cgroup_path.cache_clear()
    assert room._cgroup_path() == (tmp_path / "a" / "b", tmp_path / "a", tmp_path)
    room._cgroup_path.cache_clear()
