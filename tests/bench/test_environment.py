from __future__ import annotations

import json

from edgekit.bench import environment as room
from edgekit.bench.environment import busy, cpu_model, environment, usable_cores


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
    assert room._cpu_name(room._cpuinfo(arm)) == "ARM implementer 0x41, part 0xd08"
    x86 = "model name\t: AMD EPYC\nflags\t: avx2 fma\n\nmodel name\t: other\n"
    assert room._cpu_name(room._cpuinfo(x86)) == "AMD EPYC"
    assert room._cpu_name(room._cpuinfo("")) == ""
