"""Android through adb. No phone is here: adb and the timing program are stand-ins (``standin_adb``,
``standin_tool``) that act and speak as the real ones do. What is tested is everything on this side of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices.adb import Adb
from edgekit.devices.device import parse_device
from edgekit.devices.lease import Lease
from edgekit.errors import DeviceError, ProtocolError, TransferError, UnsupportedError, UsageError, WorkerTimeoutError
from edgekit.pipeline.bench import bench
from edgekit.pipeline.bench import tools as tools_module
from edgekit.pipeline.bench.tools import lease_of
from edgekit.types import DeviceSpec

PHONE = "adb:STANDIN7"


@pytest.fixture
def phone(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stand-in device; its files are under ``phone``."""
    home = tmp_path / "adb-home"
    (home / "phone" / "data" / "local" / "tmp").mkdir(parents=True)
    (home / "serial").write_text("STANDIN7")
    (home / "state").write_text("device")
    program = home / "adb"
    shutil.copyfile(root / "tests" / "devices" / "standin_adb", program)
    program.chmod(0o755)
    monkeypatch.setenv("STANDIN_ADB", str(home))
    monkeypatch.setenv("EDGEKIT_ADB", str(program))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(tools_module, "PLACE", tmp_path / "lease")
    return home


@pytest.fixture
def tool(tmp_path: Path, root: Path) -> str:
    file = tmp_path / "android benchmark_model"
    shutil.copyfile(root / "tests" / "devices" / "standin_tool", file)
    return str(file)


@pytest.fixture
def models(files: ModuleType, tmp_path: Path) -> tuple[str, str]:
    small = files.dense_tflite(tmp_path / "small; $(touch pwned)\n.tflite")
    return str(small), str(files.conv_int8_tflite(tmp_path / "größe `x`.tflite"))


def calls(phone: Path, verb: str) -> list[list[str]]:
    rows = (phone / "log").read_bytes().decode().split("\x1e")[:-1]
    return [row.split("\x1f")[:-1] for row in rows if verb in row.split("\x1f")]


def left(phone: Path) -> list[str]:
    return [str(file.relative_to(phone)) for file in (phone / "phone" / "data" / "local" / "tmp").rglob("*")]


def test_stand_in_gives_the_document_of_the_contract(phone: Path, tool: str, models: tuple[str, str]) -> None:
    result = bench(models, on=PHONE, tool=tool, seconds=0.4)
    document = json.loads(json.dumps(result.document()))
    first, second = document["results"]
    size = first["bytes"] // 10 / 1000  # what the stand-in prints, in milliseconds
    assert first["latency_ms"]["p50"] == pytest.approx(first["bytes"] // 10 * 99 // 100 / 1000)
    assert first["latency_ms"] == {
        **first["latency_ms"], "mean": pytest.approx(size), "p90": None, "p99": None, "p99_9": None,
    }  # fmt: skip
    assert (first["runtime"], first["samples"], first["samples_ns"], first["workers"]) == (
        "benchmark_model", 200, [], 4,
    )  # fmt: skip
    assert first["cold_start_ms"] == {"load": 119.515, "first": 87.112}
    assert first["peak_memory_bytes"] == round(93.2383 * (1 << 20))
    assert {key: first["delegation"][key] for key in ("nodes", "delegated", "by")} == {
        "nodes": 9, "delegated": 7, "by": "TfLiteXNNPackDelegate",
    }  # fmt: skip
    device = first["device"]
    assert (device["kind"], device["evidence"], device["model"], device["abi"], device["sdk"], device["soc"]) == (
        "adb", "measured", "Standin 7", "arm64-v8a", "34", "unknown",
    )  # fmt: skip
    assert len(first["tool"]["invocations"]) == 4 and first["tool"]["invocations"][0]["told"]["p95"] > 0
    (found,) = document["comparisons"]
    assert found["ratio_p50"] == pytest.approx(second["latency_ms"]["p50"] / first["latency_ms"]["p50"])
    assert found["method"] == "invocations" and found["verdict"] == "slower" and found["ci95"][0] > 1
    assert first["latency_ms"]["ci95_p50"][0] < first["latency_ms"]["p50"] < first["latency_ms"]["ci95_p50"][1]


def test_stand_in_invocations_take_turns_and_files_cross_once(
    phone: Path, tool: str, models: tuple[str, str], edgekit_cli: Callable[..., Any]
) -> None:
    command = ("bench", *models, "--on", PHONE, "--tool", tool, "--seconds", "0.4", "--threads", "1,2", "--json", "-")
    done = edgekit_cli(*command)
    assert done.code == 0, done.err
    assert len(calls(phone, "push")) == 3  # two models and the tool, for four cells
    order = done.document["protocol"]["order"]
    assert len(order) == 4 and order[1] == order[0][::-1]
    ran = [row[3] for row in calls(phone, "shell") if "--graph=" in row[3] and "peak" not in row[3]]
    graphs = [Path(entry["model"]) for entry in done.document["results"]]
    wanted = [done.document["results"][cell] for round_ in order for cell in round_]
    assert len(ran) == 16 and len(graphs) == 4
    for text, entry in zip(ran, wanted, strict=True):
        assert f"{entry['sha256']}.tflite" in text and f"--num_threads={entry['threads']} " in text
    assert left(phone) == [] and not (Path.cwd() / "pwned").exists()
    for text in (row[3] for row in calls(phone, "shell")):
        assert "pwned" not in text and "größe" not in text


def test_stand_in_of_an_older_build_gives_no_percentiles(
    phone: Path, tool: str, models: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_TOOL", "old")
    document = bench(models, on=PHONE, tool=tool, seconds=0.4).document()
    latency = document["results"][0]["latency_ms"]
    assert latency["p50"] is None and latency["ci95_p50"] is None and latency["mean"] > 0 and latency["min"] > 0
    (found,) = document["comparisons"]
    assert found["ratio_p50"] is None and found["verdict"] == "inconclusive" and "no median" in found["reason"]


@pytest.mark.parametrize(
    ("how", "said"), [("refuse", "BATCH_MATMUL"), ("crash", "exit status 139"), ("hang", "gave no answer")]
)
def test_stand_in_tool_that_fails(
    phone: Path, tool: str, models: tuple[str, str], monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    """A typed error with the tool's own words, and nothing left there: not what hangs, either."""
    monkeypatch.setenv("STANDIN_TOOL", how)
    monkeypatch.setattr(tools_module, "START_S", 1.0)
    with pytest.raises(DeviceError, match=said) as caught:
        bench(models[0], on=PHONE, tool=tool, seconds=0.4)
    assert caught.value.exit_code == 4 and left(phone) == []
    assert _running(str(phone)) == []


@pytest.mark.parametrize(
    ("state", "said"),
    [("unauthorized", "device unauthorized.; allow USB debugging"), ("offline", "device offline; plug it in again")],
)
def test_stand_in_device_that_does_not_let_in(
    phone: Path, tool: str, models: tuple[str, str], edgekit_cli: Callable[..., Any], state: str, said: str
) -> None:
    (phone / "state").write_text(state)
    done = edgekit_cli("bench", models[0], "--on", PHONE, "--tool", tool)
    assert done.code == 4 and said in " ".join(done.err.split())


def test_no_such_serial_and_no_adb(
    phone: Path, tool: str, models: tuple[str, str], edgekit_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = edgekit_cli("bench", models[0], "--on", "adb:OTHER", "--tool", tool)
    assert done.code == 4 and "device 'OTHER' not found; run: adb devices" in " ".join(done.err.split())
    monkeypatch.setenv("EDGEKIT_ADB", "no-such-adb")
    done = edgekit_cli("bench", models[0], "--on", PHONE, "--tool", tool)
    assert done.code == 4 and "not installed here; run: apt-get install adb" in " ".join(done.err.split())


def test_a_model_of_several_files_is_not_brought(phone: Path, tool: str, files: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    named = tmp_path / "onnxruntime_perf_test"
    named.write_bytes(Path(tool).read_bytes())
    with pytest.raises(UnsupportedError, match="keeps its weights in other files"):
        bench(files.external_onnx(tmp_path / "apart.onnx", "w.bin"), on=[PHONE], tool=str(named))


@pytest.mark.parametrize("text", ["", "-x", "a b", "a;b", "$(x)", "a\nb", "`x`", "a/b"])
def test_serials_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="give adb:SERIAL"):
        parse_device(f"adb:{text}" if text else "adb:")


def test_stand_in_in_a_fleet_that_dies_in_the_middle(
    phone: Path, tool: str, models: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The phone is unplugged while it times: its cell is a typed row, that of this machine stands."""
    told: list[str] = []

    def unplug(device: str, what: str, done: int, total: int) -> None:
        told.append(device)
        if device == PHONE and what == "timing" and done == 2:
            (phone / "state").write_text("offline")

    result = bench(models[0], on=[PHONE, "cpu"], tool=tool, seconds=0.4, workers=4, progress=unplug)
    lost, kept = result.document()["results"]
    assert lost["error"]["type"] == "UnreachableError" and "offline" in lost["error"]["message"]
    assert lost["latency_ms"] is None and len(lost["tool"]["invocations"]) == 2
    assert kept["latency_ms"]["p50"] > 0
    failure = result.failure()
    assert failure is not None and failure.exit_code == 4 and {PHONE, "cpu"} == set(told)
    assert "is still in /data/local/tmp/edgekit there" in caplog.text


def test_stand_in_is_cleared_after_an_interrupt(
    phone: Path,
    tool: str,
    models: tuple[str, str],
    edgekit_program: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("STANDIN_TOOL", "hang")
    command = [edgekit_program, "bench", models[0], "--on", PHONE, "--tool", tool, "--json", "out.json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while not _running(str(phone / "phone")) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert left(phone) == [] and _running(str(phone)) == []


def test_stand_in_goes_on_after_an_interrupt(
    phone: Path, tool: str, models: tuple[str, str], edgekit_cli: Callable[..., Any], tmp_path: Path
) -> None:
    """The device is unplugged in the middle, the document is lost: what it had timed is not timed again."""

    def unplug(device: str, what: str, done: int, total: int) -> None:
        if what == "timing" and done == 3:
            raise KeyboardInterrupt

    part = tmp_path / "out.json.part"
    with pytest.raises(KeyboardInterrupt):
        bench(models, on=PHONE, tool=tool, seconds=0.4, journal=part, progress=unplug)
    assert part.read_text().count("invocation") == 6 and left(phone) == []
    (phone / "log").unlink()
    result = bench(models, on=PHONE, tool=tool, seconds=0.4, journal=part)
    timed = [row for row in calls(phone, "shell") if "--graph=" in row[3] and "peak_memory" not in row[3]]
    assert len(timed) == 2
    assert result.document()["protocol"]["kept_blocks"] == 6
    assert [len(entry["tool"]["invocations"]) for entry in result.document()["results"]] == [4, 4]
    result.delivered()
    assert not part.exists()


def test_what_is_brought_is_for_one_user_alone(phone: Path, tool: str, models: tuple[str, str]) -> None:
    folder = phone / "phone" / "data" / "local" / "tmp" / "edgekit"
    folder.mkdir(mode=0o755)  # an older edgekit left it
    with Adb(parse_device(PHONE)) as device:
        names = [Path(device.bring(models[0])).name, Path(device.bring(tool, program=True)).name]
        assert [(folder / name).stat().st_mode & 0o777 for name in names] == [0o600, 0o700]
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_device_that_talks_without_end_is_cut_off(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_LIMIT_REPLY_BYTES", "1e6")
    with Adb(parse_device(PHONE)) as device, pytest.raises(ProtocolError, match="more than 1,000,000 bytes"):
        device.shell("yes")


def test_a_status_of_many_digits_is_none(phone: Path) -> None:
    with Adb(parse_device(PHONE)) as device, pytest.raises(DeviceError, match="cannot be reached"):
        device.shell(f"echo edgekit-status:{'9' * 5000}; exit")


def test_stand_in_with_a_full_disk(phone: Path, models: tuple[str, str]) -> None:
    (phone / "full").write_text("")
    with Adb(parse_device(PHONE)) as device, pytest.raises(TransferError, match="No space left on device"):
        device.bring(models[0])


def test_stand_in_that_hangs_is_given_up(phone: Path) -> None:
    with Adb(DeviceSpec(PHONE, "adb", "STANDIN7")) as device, pytest.raises(WorkerTimeoutError, match="within 1 s"):
        device.shell("sleep 60", 1.0)


def test_one_user_at_a_time(
    phone: Path, tool: str, models: tuple[str, str], monkeypatch: pytest.MonkeyPatch, edgekit_cli: Callable[..., Any]
) -> None:
    lease = Lease(lease_of(parse_device(PHONE)))
    assert lease.take("ann", 60) is None
    monkeypatch.setattr(tools_module, "WAIT_S", 0.0)
    with pytest.raises(DeviceError, match="is used by ann"):
        bench(models[0], on=PHONE, tool=tool, seconds=0.4)
    lease.release()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("bench", "{model}", "--on", PHONE), 2, "--tool PATH; get benchmark_model"),
        (("bench", "{model}", "--tool", "/nowhere", "--on", PHONE), 2, "there is no such file"),
        (("bench", "{model}", "--tool", "{tool}"), 2, "is for adb: devices"),
        (("bench", "{model}", "--tool", "{tool}", "--on", PHONE, "--profile"), 3, "cannot be asked for --profile"),
        (("verify", "{model}", "--against", "{model}", "--on", PHONE), 3, "give no outputs"),
        (("run", "{model}", "x.npz", "--on", PHONE), 3, "Termux"),
        (("eval", "{model}", "--data", "digits", "--on", PHONE), 3, "over ssh: ssh://user@phone:8022"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    phone: Path, tool: str, models: tuple[str, str], edgekit_cli: Callable[..., Any],
    words: tuple[str, ...], code: int, said: str,
) -> None:  # fmt: skip
    done = edgekit_cli(*(word.format(model=models[1], tool=tool) for word in words))
    assert done.code == code and said in " ".join(done.err.split()), done.err


def test_stand_in_gets_a_name(phone: Path, edgekit_cli: Callable[..., Any]) -> None:
    added = edgekit_cli("device", "add", "phone", PHONE, "--json", "-")
    assert added.code == 0 and added.document["check"]["facts"]["model"] == "Standin 7", added.err
    (row,) = edgekit_cli("device", "list", "--json", "-").document["saved"]
    assert (row["state"], row["detail"]) == ("ready", "Standin 7, Android 14 (SDK 34), arm64-v8a")
    (phone / "state").write_text("unauthorized")
    (row,) = edgekit_cli("device", "list", "--json", "-").document["saved"]
    assert row["state"] == "unreachable" and "unauthorized" in row["detail"]


def _running(text: str) -> list[str]:
    """Command lines of living processes that name a folder of the stand-in's phone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if text in words and "--graph=" in words and f"{os.getpid()}" != entry.name:
            found.append(words)
    return found
