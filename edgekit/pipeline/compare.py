"""``edgekit compare A.json B.json``: two saved bench results, A relative to B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.bench.compare import check_comparable, compare_sessions
from edgekit.bench.result import blocks_of, owners_of
from edgekit.bench.variance import BUILT_IN, RunVariance, variance_of, wider
from edgekit.documents import parse_json, typed
from edgekit.errors import InputError
from edgekit.inputs import read_regular
from edgekit.options.base import with_options
from edgekit.options.measure import CompareOptions
from edgekit.results.bench import BenchRecord, Entry
from edgekit.results.compare import CompareResult, Comparison

SCHEMA = "edgekit.bench/1"
HOW = "give a file of 'edgekit bench … --json FILE'"


@with_options(CompareOptions)
def compare(options: CompareOptions) -> CompareResult:
    """Compares the results saved in ``a`` with those in ``b`` (the baseline): ratio 0.5 means A takes half the time.

    With one result in each file the two are compared whatever they are called; else results of one model name,
    runtime, device, threads, batch and scenario are.

    Raises:
        InputError: a file that is not a saved bench result, or nothing in common.
        UnsupportedError: different evidence class or CPU.
    """
    first, second = read_record(options.a), read_record(options.b)
    variance = wider(variance_of(first), variance_of(second))
    names = str(options.a), str(options.b)
    return compare_entries(first.results, second.results, names, options.fail_slower, variance)


def compare_entries(
    entries_a: Sequence[Entry],
    entries_b: Sequence[Entry],
    names: tuple[str, str],
    fail_slower: float | None,
    variance: RunVariance = BUILT_IN,
) -> CompareResult:
    """Like :func:`compare`, of entries of ``results``; ``names`` says in messages where they come from.

    ``variance``: the wider of what the two results were made with.
    """
    pairs, unmatched = match(entries_a, entries_b)
    if not pairs:
        raise InputError(
            f"{names[0]} and {names[1]} have no result in common (model, runtime, device, threads, batch, scenario); "
            f"they hold: {'; '.join(unmatched)}"
        )
    comparisons = tuple(compare_two(first, second, names, variance) for first, second in pairs)
    return CompareResult(comparisons=comparisons, unmatched=tuple(unmatched), fail_slower=fail_slower)


def compare_two(first: Entry, second: Entry, names: tuple[str, str], variance: RunVariance) -> Comparison:
    """Two entries of different runs; ``names`` and ``variance`` as of :func:`compare_entries`.

    Raises:
        InputError: their samples are missing.
        UnsupportedError: different evidence class or CPU.
    """
    check_comparable(first, second)
    blocks = blocks_of(first, names[0]), blocks_of(second, names[1])
    owners = owners_of(first, len(blocks[0])), owners_of(second, len(blocks[1]))
    expected = variance.when(first.noisy or second.noisy)
    found = compare_sessions(first.model, second.model, *blocks, owners, expected)
    runtimes = (first.runtime, second.runtime)
    return replace(found, device=first.device.name, threads=first.threads, runtimes=runtimes)


def read_record(path: str | Path) -> BenchRecord:
    """A saved bench document, of whose ``results`` only those that finished are left.

    Raises:
        InputError: it cannot be read, is not JSON, or is not a bench document with a finished result.
    """
    document = parse_json(read_regular(path, InputError, f"a saved result; {HOW}", "DOCUMENT_BYTES"), InputError, path)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path} has the schema {str(schema)[:60]!r}, wanted {SCHEMA!r}; {HOW}")
    try:
        record = typed(BenchRecord, document, "it")
    except ValueError as error:
        raise InputError(f"{path} is not a result of the bench: {error}; {HOW}") from error
    finished = tuple(entry for entry in record.results if entry.error is None)
    if not finished:
        raise InputError(f"{path} holds no finished result; run the bench again")
    return replace(record, results=finished)


def match(entries_a: Sequence[Entry], entries_b: Sequence[Entry]) -> tuple[list[tuple[Entry, Entry]], list[str]]:
    """Pairs of one setting, and the names of entries without a partner. One entry in each: they are a pair.

    Models are known by their file name, by their whole path where two in one list share a file name.
    """
    if len(entries_a) == len(entries_b) == 1:
        return [(entries_a[0], entries_b[0])], []
    whole = any(len({_key(entry, False) for entry in side}) < len(side) for side in (entries_a, entries_b))
    by_key = {_key(entry, whole): entry for entry in entries_b}
    pairs, unmatched = [], []
    for entry in entries_a:
        partner = by_key.pop(_key(entry, whole), None)
        if partner is None:
            unmatched.append(_name(entry))
        else:
            pairs.append((entry, partner))
    return pairs, unmatched + [_name(entry) for entry in by_key.values()]


def _key(entry: Entry, whole: bool) -> tuple[Any, ...]:
    where = (entry.device.name, entry.runtime, entry.threads, entry.batch, entry.scenario)
    return (entry.model if whole else Path(entry.model).name, *where)


def _name(entry: Entry) -> str:
    return f"{entry.model} ({entry.runtime}, {entry.device.name}, {entry.threads} threads)"
