"""The shipped networks on the ARM emulator, by the script that users run; all of them with ``pytest -m sweep``."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.artifact import open_artifact, write_card

FAMILIES = ("mlp", "cnn", "rnn", "lstm", "gru", "transformer", "gan", "autoencoder", "detector")


def verified(root: Path, arm_root: Path, out: Path, *arguments: str) -> str:
    command = [sys.executable, str(root / "scripts" / "verify_on_arm.py"), *arguments, "--out", str(out)]
    env = {**os.environ, "EDGEKIT_EMULATOR_ROOT": str(arm_root)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.sweep
@pytest.mark.needs_data
@pytest.mark.parametrize("name", FAMILIES)
def test_every_network(root: Path, arm_root: Path, tmp_path: Path, name: str) -> None:
    assert "4 of 4 files" in verified(root, arm_root, tmp_path, name)


@pytest.mark.slow
def test_the_mlp_is_the_same_and_a_file_that_differs_is_seen(root: Path, arm_root: Path, tmp_path: Path) -> None:
    """Then its card promises what it does not compute: exit code 1, and the row says so."""
    said = verified(root, arm_root, tmp_path, "mlp", "--format", "onnx")
    assert "2 of 2 files compute on emulator:cortex-a72 what they compute here" in said
    file = tmp_path / "mlp.onnx"
    card = open_artifact(file).card
    assert card is not None and card.selftest is not None
    wrong = {name: tuple(value + 1 for value in values) for name, values in card.selftest.outputs.items()}
    write_card(file, replace(card, selftest=replace(card.selftest, outputs=wrong)))
    command = [sys.executable, str(root / "scripts" / "verify_on_arm.py"), "mlp", "--format", "onnx"]
    env = {**os.environ, "EDGEKIT_EMULATOR_ROOT": str(arm_root)}
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1 and "DIFFERS and fails its self-test" in done.stdout
