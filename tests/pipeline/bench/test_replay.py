"""``bench --replay``: the same cells, options, plan and order again, compared with the first run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.program import run as program
from edgekit.errors import InputError, UsageError
from edgekit.pipeline.bench import bench


def test_the_same_again(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again.json"
    assert program(["bench", "--replay", str(saved), "--json", str(out)]) == 0
    assert f"against {saved}" in " ".join(capsys.readouterr().out.split())
    first, second = (json.loads(path.read_text()) for path in (saved, out))
    for key in ("order", "rounds", "seconds"):
        assert first["protocol"][key] == second["protocol"][key]
    assert first["protocol"]["plan"] | {"rounds": 0} == second["protocol"]["plan"] | {"rounds": 0}
    for one, other in zip(first["results"], second["results"], strict=True):
        for key in ("model", "sha256", "runtime", "threads", "batch", "scenario", "workers"):
            assert one[key] == other[key]
    assert second["baseline"]["path"] == str(saved)
    assert [c["method"] for c in second["baseline"]["comparisons"]] == ["occasions"] * 2
    assert second["seed"] == first["seed"]


@pytest.mark.parametrize("more", [["--seconds", "1"], ["--threads", "2"], ["--baseline", "x.json"]])
def test_options_that_would_make_it_another_run(saved: Path, more: list[str]) -> None:
    assert program(["bench", "--replay", str(saved), *more]) == 2


def test_models_are_those_of_the_result(saved: Path, models: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="leave the models out"):
        bench(models, replay=saved)
    assert program(["bench"]) == 2


def test_a_file_that_was_changed_is_not_the_same(saved: Path, tmp_path: Path) -> None:
    document = json.loads(saved.read_text())
    document["results"][0]["sha256"] = "0" * 64
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"another checksum.*--baseline"):
        bench(replay=edited)


@pytest.mark.parametrize("lacking", ["options", "plan"])
def test_a_result_that_does_not_say_how_it_was_made(saved: Path, tmp_path: Path, lacking: str) -> None:
    document = json.loads(saved.read_text())
    del document["protocol"][lacking]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(document))
    with pytest.raises(InputError, match="older edgekit"):
        bench(replay=old)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"on": ["python:MARKER"]}, "names python:.* itself, which starts a program"),
        ({"on": ["ssh://somebody@elsewhere"]}, "reaches another machine"),
        ({"tool": ["MARKER"]}, "names .* itself"),
        ({"on": 5}, "its options.on is 5"),
        ({"seconds": "long"}, "its options.seconds"),
        ({"models": "a.onnx"}, "a.onnx does not exist"),
        ({"models": 5}, "its options.models is 5"),
        ({"models": []}, "names no models"),
    ],
)
def test_nothing_is_started_that_only_the_file_names(
    saved: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    program_file = tmp_path / "marker.sh"
    program_file.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program_file.chmod(0o755)
    document = json.loads(saved.read_text().replace("MARKER", str(program_file)))
    changes = json.loads(json.dumps(changes).replace("MARKER", str(program_file)))
    document["protocol"]["options"] |= changes
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    with pytest.raises((InputError, UsageError), match=words):
        bench(replay=edited)
    assert not (tmp_path / "started").exists()
    with pytest.raises(UsageError, match="it was not there"):
        bench(replay=saved, on=["python:/another"])


def test_a_program_that_is_typed_too_is_started(saved: Path, tmp_path: Path) -> None:
    """The interpreter of the first run, under its own name."""
    document = json.loads(saved.read_text())
    here = f"python:{sys.executable}"
    document["protocol"]["options"]["on"] = [here]
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="the baseline has no result of these cells"):  # they ran elsewhere
        bench(replay=edited, on=[here])
