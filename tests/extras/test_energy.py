"""Meters of a made-up sysfs tree, and of a made-up NVML that a compiler builds here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.extras import energy
from edgekit.extras.energy import Counter, Power, find_meters, joules, measure

NO_NVML = "libthere-is-no-such.so"
FAKE_NVML = """
static unsigned long long spent = 5000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned k, void **d) { *d = (void *)(unsigned long)(k + 1); return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *j) {
  if (d == (void *)2) return 3;
  *j = spent; spent += 1500; return 0;
}
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


def test_rapl_packages_and_not_their_parts(tmp_path: Path) -> None:
    rapl = "class/powercap/intel-rapl:0"
    root = tree(tmp_path, {
        f"{rapl}/name": "package-0", f"{rapl}/energy_uj": "999000000", f"{rapl}/max_energy_range_uj": "1000000000",
        f"{rapl}:0/name": "core", f"{rapl}:0/energy_uj": "1",
        "class/powercap/intel-rapl:1/name": "dram", "class/powercap/intel-rapl:1/energy_uj": "7",
    })  # fmt: skip
    meters, refused = find_meters(root, NO_NVML)
    assert [(m.name, m.source) for m in meters] == [("package-0", "RAPL"), ("dram", "RAPL")]
    assert refused == []
    meters[0].start()
    tree(tmp_path, {f"{rapl}/energy_uj": "2000000"})  # it starts anew at 1000 J
    assert meters[0].stop() == pytest.approx(3)


def test_a_meter_for_root_only_is_said(tmp_path: Path) -> None:
    rapl = "class/powercap/intel-rapl:0"
    root = tree(tmp_path, {f"{rapl}/name": "package-0"})
    (root / "sys" / rapl / "energy_uj").mkdir()  # a folder: cannot be read, by root neither
    meters, refused = find_meters(root, NO_NVML)
    assert meters == []
    assert len(refused) == 1
    assert "chmod a+r" in refused[0]


def test_sensors_of_boards(tmp_path: Path) -> None:
    root = tree(tmp_path, {
        "class/hwmon/hwmon0/name": "ina3221", "class/hwmon/hwmon0/in1_label": "VDD_IN",
        "class/hwmon/hwmon0/in1_input": "5000", "class/hwmon/hwmon0/curr1_input": "2400",
        "class/hwmon/hwmon1/name": "ina226", "class/hwmon/hwmon1/power1_input": "3500000",
        "class/hwmon/hwmon2/name": "coretemp", "class/hwmon/hwmon2/temp1_input": "40000",
        "bus/i2c/drivers/ina3221x/1-0040/iio:device0/in_power0_input": "4250",
        "bus/i2c/drivers/ina3221x/1-0040/iio:device0/rail_name_0": "POM_5V_IN",
    })  # fmt: skip
    meters, _ = find_meters(root, NO_NVML)
    watts = {meter.name: meter.read() for meter in meters if isinstance(meter, Power)}
    assert watts == {
        "ina3221 VDD_IN": pytest.approx(12.0),
        "ina226 power1": pytest.approx(3.5),
        "POM_5V_IN": pytest.approx(4.25),
    }


def test_a_machine_without_any(tmp_path: Path) -> None:
    assert find_meters(tmp_path, NO_NVML) == ([], [])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to build a library in NVML's place")
def test_nvml(tmp_path: Path) -> None:
    (tmp_path / "nvml.c").write_text(FAKE_NVML)
    library = tmp_path / "libnvml.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")], check=True)
    meters, refused = find_meters(tmp_path, str(library))
    assert [(m.name, m.source) for m in meters] == [("GPU 0", "NVML")]
    assert refused == ["GPU 1: NVML status 3: it does not count energy"]
    meters[0].start()
    assert meters[0].stop() == pytest.approx(1.5)


def test_energy_under_a_curve() -> None:
    assert joules([(0, 2.0), (10**9, 4.0), (3 * 10**9, 4.0)]) == pytest.approx(3 + 8)
    assert joules([(0, 2.0)]) == 0


def test_a_run_is_charged_beyond_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter of 10 W at rest that each run of 10 ms adds 2 J to, and a sensor that always shows 6 W."""
    clock, extra = [0], [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += round(seconds * 1e9)

    def run() -> None:
        extra[0] += 2.0
        sleep(0.01)

    monkeypatch.setattr(energy, "now_ns", lambda: clock[0])
    monkeypatch.setattr(energy.time, "sleep", sleep)
    counter = Counter("c", "made up", lambda: 10.0 * clock[0] / 1e9 + extra[0])
    power = Power("p", "made up", lambda: 6.0)
    found = measure(run, 0.2, [counter, power])
    assert (found["runs"], found["seconds"]) == (20, pytest.approx(0.2))
    first, second = found["meters"]
    assert first["joules"] == pytest.approx(42)
    assert first["joules_per_run"] == pytest.approx(2.1)
    assert first["idle_watts"] == pytest.approx(10)
    assert first["joules_per_run_beyond_idle"] == pytest.approx(2.0)
    assert second["watts"] == pytest.approx(6)
    assert second["joules_per_run_beyond_idle"] == pytest.approx(0, abs=1e-9)
