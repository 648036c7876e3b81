"""``bench --replay FILE``: the models, options and plan of a saved result, to run the same again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_model
from edgekit.bench.schedule import MOST_ROUNDS, BlockPlan
from edgekit.documents import typed
from edgekit.errors import InputError, UsageError
from edgekit.options.base import flag_of, option_fields
from edgekit.options.bench import NOT_TIMED, BenchOptions
from edgekit.pipeline.compare import HOW, read_record
from edgekit.results.bench import Entry, Machine

_PROGRAMS = ("on", "tool")
"""Options that start programs or reach other machines: what a file says of them has to be typed, too."""


@dataclass(frozen=True)
class Replay:
    """What a saved result says about how it was made. The order of the blocks follows from the seed and the plan.

    ``plans``: by the devices that were one machine.
    """

    keywords: Mapping[str, Any]
    plans: Mapping[tuple[str, ...], BlockPlan]


def read_replay(options: BenchOptions) -> Replay:
    """Reads the saved result that ``options`` name.

    Raises:
        UsageError: an option that would make it another run.
        InputError: no saved result, one without its options, or a model file that is another one now.
    """
    path = str(options.replay)
    others = sorted(options.named - NOT_TIMED - {"replay", "class_", *_PROGRAMS})
    if others:
        raise UsageError(
            f"--replay runs the same again; leave out {', '.join(flag_of(BenchOptions, name) for name in others)}, "
            "or run the bench with --baseline"
        )
    record = read_record(path)
    rows, timing = record.protocol.options, record.protocol.timing
    if rows is None:
        raise InputError(f"{path} does not hold the options it was made with; it is of an older edgekit; {HOW}")
    try:
        saved = typed(BenchOptions, rows, "its options")
        alone = Machine(devices=tuple(text.strip() for text in saved.on), timing=timing)
        plans = dict(_plans(record.protocol.machines or (alone,)))
    except (ValueError, UsageError) as error:
        raise InputError(f"{path}: its options are not those of this edgekit ({error}); {HOW}") from error
    if not plans:
        raise InputError(f"{path} does not hold the plan it was made with; it is of an older edgekit; {HOW}")
    if not saved.paths:
        raise InputError(f"{path} names no models; {HOW}")
    _check_programs(path, saved, options)
    own = {one.name for one in option_fields(BenchOptions)} - NOT_TIMED - {"replay", "baseline"}
    keywords = {name: getattr(saved, name) for name in rows if name in own}
    keywords["workers"] = max(entry.workers for entry in record.results)
    for entry in record.results:
        _check_same_file(entry, path)
    return Replay(keywords, plans)


def _plans(machines: Sequence[Machine]) -> Iterator[tuple[tuple[str, ...], BlockPlan]]:
    for machine in machines:
        if machine.timing.plan is not None and machine.timing.rounds is not None:
            plan = typed(BlockPlan, machine.timing.plan, "its machine.plan")
            yield machine.devices, replace(plan, rounds=min(machine.timing.rounds, MOST_ROUNDS))


def _check_programs(path: str, saved: BenchOptions, options: BenchOptions) -> None:
    """Refuses to start programs, or to send files to machines, that stand in the result and were not typed."""
    typed_devices = options.devices if {"on", "class_"} & options.named else ()
    for name, there, given in (("on", saved.devices, typed_devices), ("tool", saved.tool, options.tool)):
        own = [text for text in there if name == "tool" or ":" in text]
        lacking = [text for text in own if text not in given]
        foreign = [text for text in given if text not in there]
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
