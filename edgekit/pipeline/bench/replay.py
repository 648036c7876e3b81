"""``bench --replay FILE``: the models, options and plan of a saved result, to run the same again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_model
from edgekit.bench.schedule import MOST_ROUNDS, Plan
from edgekit.documents import typed
from edgekit.errors import InputError, UsageError
from edgekit.pipeline.bench.options import BenchOptions
from edgekit.pipeline.compare import HOW, read_record
from edgekit.results.bench import Entry, Machine

ALLOWED = frozenset({"fail_slower", "journal", "resume"})
"""What may be asked anew: it changes nothing of what is timed."""
_PROGRAMS = ("on", "tool")
"""Options that start programs or reach other machines: what a file says of them has to be typed, too."""


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
    others = sorted(asked.keys() - ALLOWED - {"replay", *_PROGRAMS})
    if others:
        raise UsageError(
            f"--replay runs the same again; leave out {', '.join('--' + name.replace('_', '-') for name in others)}, "
            "or run the bench with --baseline"
        )
    record = read_record(path)
    options, timing = record.protocol.options, record.protocol.timing
    if options is None:
        raise InputError(f"{path} does not hold the options it was made with; it is of an older edgekit; {HOW}")
    try:
        models = typed(_Models, options, "its options").models
        known = asdict(typed(BenchOptions, options, "its options"))
        alone = Machine(devices=tuple(text.strip() for text in known["on"]), timing=timing)
        plans = dict(_plans(record.protocol.machines or (alone,)))
    except ValueError as error:
        raise InputError(f"{path}: its options are not those of this edgekit ({error}); {HOW}") from error
    if not plans:
        raise InputError(f"{path} does not hold the plan it was made with; it is of an older edgekit; {HOW}")
    if not models:
        raise InputError(f"{path} names no models; {HOW}")
    _check_programs(path, known, asked)
    keywords = {key: known[key] for key in options if key in known.keys() - ALLOWED - {"replay", "baseline"}}
    keywords["workers"] = max(entry.workers for entry in record.results)
    for entry in record.results:
        _check_same_file(entry, path)
    return Replay(models, {**keywords, **{k: asked[k] for k in ALLOWED & asked.keys()}}, plans)


def _plans(machines: Sequence[Machine]) -> Iterator[tuple[tuple[str, ...], Plan]]:
    for machine in machines:
        if machine.timing.plan is not None and machine.timing.rounds is not None:
            plan = typed(Plan, machine.timing.plan, "its machine.plan")
            yield machine.devices, replace(plan, rounds=min(machine.timing.rounds, MOST_ROUNDS))


@dataclass(frozen=True, slots=True)
class _Models:
    models: tuple[str, ...] = ()


def _check_programs(path: str | Path, options: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuses to start programs, or to send files to machines, that stand in the result and were not typed."""
    for name in _PROGRAMS:
        given = asked.get(name, ())
        given = (given,) if isinstance(given, str) else tuple(given)
        own = [text for text in options[name] if name == "tool" or ":" in text]
        lacking = [text for text in own if text not in given]
        foreign = [text for text in given if text not in options[name]]
        if foreign:
            raise UsageError(f"--replay runs the same again; leave out --{name} {foreign[0]}, it was not there")
        if lacking:
            raise UsageError(
                f"{path} names {lacking[0]} itself, which starts a program or reaches another machine; if you trust "
                f"it, add --{name} {f' --{name} '.join(own)}"
            )


def _check_same_file(entry: Entry, path: str | Path) -> None:
    model = Path(entry.model)
    if model.is_file() and sha256_model(model) != entry.sha256:
        raise InputError(
            f"{model} is not the file that {path} was made with (another checksum); "
            f"to compare the two: edgekit bench {model} --baseline {path}"
        )
