"""``bench --replay FILE``: the models, options and plan of a saved result, to run the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_model
from edgekit.bench.clock import WarmupRule
from edgekit.bench.schedule import Plan
from edgekit.errors import InputError, UsageError
from edgekit.pipeline.bench.options import BenchOptions
from edgekit.pipeline.compare import HOW, read_document

ALLOWED = frozenset({"fail_slower", "journal", "resume"})
"""What may be asked anew: it changes nothing of what is timed."""


@dataclass(frozen=True)
class Replay:
    """What a saved result says about how it was made. The order of the blocks follows from the seed and the plan.

    ``plans``: by the devices that were one machine.
    """

    models: tuple[str, ...]
    keywords: Mapping[str, Any]
    plans: Mapping[tuple[str, ...], Plan]


def read_replay(path: str | Path, asked: Mapping[str, Any]) -> Replay:
    """Reads ``path``; ``asked`` are the options given beside it.

    Raises:
        UsageError: an option that would make it another run.
        InputError: no saved result, one without its options, or a model file that is another one now.
    """
    others = sorted(asked.keys() - ALLOWED - {"replay"})
    if others:
        raise UsageError(
            f"--replay runs the same again; leave out {', '.join('--' + name.replace('_', '-') for name in others)}, "
            "or run the bench with --baseline"
        )
    document = read_document(path)
    protocol = document.get("protocol") or {}
    options = protocol.get("options")
    devices = dict.fromkeys(str(text).strip() for text in (options or {}).get("on", ("cpu",)))
    machines = protocol.get("machines") or [{"devices": devices, **protocol}]
    timed = [row for row in machines if isinstance(row.get("plan"), dict)]
    if not isinstance(options, dict) or not timed:
        raise InputError(f"{path} does not hold the options it was made with; it is of an older edgekit; {HOW}")
    known = {field_.name for field_ in fields(BenchOptions)}
    models = options.get("models")
    keywords = {key: value for key, value in options.items() if key in known - ALLOWED - {"replay", "baseline"}}
    keywords["workers"] = max((int(entry.get("workers", 1)) for entry in document["results"]), default=1)
    if not isinstance(models, list) or not models:
        raise InputError(f"{path} names no models; {HOW}")
    for entry in document["results"]:
        _check_same_file(entry, path)
    try:
        plans = {tuple(map(str, row["devices"])): _plan(row) for row in timed}
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: its plan is not one of this edgekit ({error}); {HOW}") from error
    return Replay(tuple(map(str, models)), {**keywords, **{k: asked[k] for k in ALLOWED & asked.keys()}}, plans)


def _plan(row: Mapping[str, Any]) -> Plan:
    plan = row["plan"]
    return Plan(**{**plan, "rewarm": WarmupRule(**plan["rewarm"]), "rounds": int(row["rounds"])})


def _check_same_file(entry: Mapping[str, Any], path: str | Path) -> None:
    model = Path(str(entry.get("model")))
    if model.is_file() and sha256_model(model) != entry.get("sha256"):
        raise InputError(
            f"{model} is not the file that {path} was made with (another checksum); "
            f"to compare the two: edgekit bench {model} --baseline {path}"
        )
