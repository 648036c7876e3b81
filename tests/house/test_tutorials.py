"""docs/tutorials: every file and every command as it stands, from own data and weights to what an app loads."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TUTORIALS = sorted(path.name for path in (Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_it_runs(name: str, root: Path, edgekit_here: Callable[..., Any], tmp_path: Path) -> None:
    blocks = BLOCK.findall((root / "docs" / "tutorials" / name).read_text(encoding="utf-8"))
    for language, body in blocks:
        if language == "python":
            (tmp_path / body.splitlines()[0].removeprefix("# ")).write_text(body)
    verbs = []
    for line in "".join(body for language, body in blocks if language == "sh").splitlines():
        program, *words = shlex.split(line)
        if program == "python":
            subprocess.run([sys.executable, *words], cwd=tmp_path, check=True)
            continue
        verbs.append(words[0])
        words += ["--seconds", "0"] if words[0] == "quantize" else []  # a verdict on time is for a quiet machine
        ended = edgekit_here(*words)
        assert ended.code == 0, (line, ended.err)
    assert {"export", "quantize", "eval", "bench", "package"} <= set(verbs)
    done = subprocess.run([sys.executable, "app/selftest.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
