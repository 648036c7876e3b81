"""``--fail-slower`` as a CI gate, by exit codes: 0 passed, 1 slower, 5 the noise allows no verdict, 3 refused."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.program import run as program
from edgekit.errors import InputError

Scaled = Callable[..., Path]


@pytest.fixture
def scaled(saved: Path, tmp_path: Path) -> Scaled:
    """``scaled(name, factor, jitter)``: the first saved result alone, its blocks of a steady 1 ms times ``factor``."""

    def make(name: str, factor: float, jitter: float = 0.001, **device: str) -> Path:
        generator = np.random.default_rng(len(name))
        document = json.loads(saved.read_text())
        entry = document["results"][0]
        entry["blocks"] = [20] * 20
        levels = np.repeat(1e6 * factor * (1 + jitter * generator.standard_normal(20)), 20)
        entry["samples_ns"] = [int(value) for value in levels]
        entry["block_workers"] = [f"0.{place // 2 % 4}" for place in range(20)]
        entry["noise"] = {"verdict": "stable"}
        entry["device"].update(device)
        document["results"] = [entry]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    return make


@pytest.mark.parametrize(
    ("factor", "jitter", "code"),
    [(1.0, 0.001, 0), (1.10, 0.001, 1), (0.5, 0.001, 0), (1.03, 0.001, 5), (1.0, 0.2, 5), (1.10, 0.2, 5)],
)
def test_compare(scaled: Scaled, factor: float, jitter: float, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    files = str(scaled("new", factor, jitter)), str(scaled("base", 1.0))
    assert program(["compare", *files, "--fail-slower", "3"]) == code
    said = capsys.readouterr().err
    assert ("slower by more than 3%" in said) == (code == 1)
    assert ("the noise is too large" in said) == (code == 5)


def test_without_a_gate_a_verdict_is_not_a_failure(scaled: Scaled) -> None:
    assert program(["compare", str(scaled("new", 2.0)), str(scaled("base", 1.0))]) == 0


@pytest.mark.parametrize("device", [{"cpu": "Z80"}, {"cpu_id": "stepping=9"}, {"evidence": "constrained"}])
def test_another_machine_or_evidence_is_refused(scaled: Scaled, device: dict[str, str]) -> None:
    assert program(["compare", str(scaled("new", 1.0, **device)), str(scaled("base", 1.0))]) == 3


def test_what_an_older_document_learned_widens_the_interval(scaled: Scaled) -> None:
    """Older documents may hold what their machine had learned: 10% between its processes makes 1.10 no verdict."""
    from edgekit.pipeline.compare import compare

    new, base = scaled("new", 1.10), scaled("base", 1.0)
    known = compare(new, base).comparisons[0]
    document = json.loads(new.read_text())
    document["protocol"]["noise_floor"] |= {"process_spread": 0.1, "process_weight": 8.0}
    new.write_text(json.dumps(document))
    wide = compare(new, base).comparisons[0]
    assert known.verdict.value == "slower"
    assert wide.verdict.value == "inconclusive"
    assert wide.high - wide.low > 3 * (known.high - known.low)


def test_a_noisy_session_is_worth_less(scaled: Scaled) -> None:
    from edgekit.pipeline.compare import compare

    new, base = scaled("new", 1.10), scaled("base", 1.0)
    document = json.loads(new.read_text())
    document["results"][0]["noise"] = {"verdict": "noisy"}
    new.write_text(json.dumps(document))
    assert compare(new, base).comparisons[0].verdict.value == "inconclusive"


def test_the_bench_against_a_baseline(
    scaled: Scaled, models: tuple[str, str], saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file a thousand times faster in the baseline: slower, whatever the noise."""
    base = scaled("base", 1e-4)
    run = ["bench", models[0], "--seconds", "0.3", "--workers", "2", "--baseline", str(base), "--fail-slower", "3"]
    assert program(run) == 1
    assert "detectable from" in " ".join(capsys.readouterr().out.split())


ODD = (None, True, -1, 0, 10**30, 1e308, "", "x" * 9, [], {}, [[]], [0], {"a": {}}, [None], [10**25])


def _spoiled(node: Any, dice: random.Random) -> Any:
    """The document with one value somewhere that is another one, or not there."""
    if isinstance(node, dict) and node and dice.random() < 0.9:
        key = dice.choice(list(node))
        if dice.random() < 0.1:
            return {name: value for name, value in node.items() if name != key}
        return {**node, key: _spoiled(node[key], dice)}
    if isinstance(node, list) and node and dice.random() < 0.9:
        place = dice.randrange(len(node))
        return [*node[:place], _spoiled(node[place], dice), *node[place + 1 :]]
    return dice.choice(ODD)


def test_damaged_results_are_refused_or_compared(scaled: Scaled, tmp_path: Path) -> None:
    from edgekit.pipeline.compare import compare

    base = scaled("base", 1.0)
    whole = json.loads(base.read_text())
    spoilt = tmp_path / "spoilt.json"
    dice = random.Random(4)
    for _ in range(150):
        document = {**whole, "results": _spoiled(whole["results"], dice)}
        document["protocol"] = _spoiled(whole["protocol"], dice)
        spoilt.write_text(json.dumps(document))
        for pair in ((base, spoilt), (spoilt, base)):
            try:
                found = compare(*pair, fail_slower=3)
            except InputError:
                continue
            json.dumps(found.document())


def test_a_result_of_an_older_edgekit_is_compared(scaled: Scaled) -> None:
    """Of the keys that were there from the beginning alone, and with one that nobody knows any more."""
    from edgekit.pipeline.compare import compare

    new, base = scaled("new", 1.10), scaled("base", 1.0)
    document = json.loads(base.read_text())
    (whole,) = document["results"]
    first = ("model", "runtime", "device", "threads", "batch", "scenario", "samples_ns")
    entry = {"gone": {"x": 1}, **{key: whole[key] for key in first}}
    base.write_text(json.dumps({"schema": document["schema"], "results": [entry]}))
    assert compare(new, base).comparisons[0].ratio == pytest.approx(1.1, rel=0.01)  # the jitter is 0.1%


@pytest.mark.parametrize(
    "change",
    [
        {"samples_ns": [10**30] * 400},
        {"samples_ns": [0] * 400},
        {"blocks": [0] * 20},
        {"blocks": [-1, 401]},
        {"blocks": 5},
    ],
)
def test_figures_that_are_not_times(scaled: Scaled, change: dict[str, Any]) -> None:
    new, base = scaled("new", 1.0), scaled("base", 1.0)
    document = json.loads(new.read_text())
    document["results"][0] |= change
    new.write_text(json.dumps(document))
    assert program(["compare", str(new), str(base)]) == 3


def test_files_that_are_not_results(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    for name, content in (("deep", "[" * 5000), ("long", "1" * 5000), ("nan", '{"schema": NaN}'), ("list", "[]")):
        (tmp_path / f"{name}.json").write_text(content)
    for file in tmp_path.iterdir():
        assert program(["compare", str(file), str(file)]) == 3
