"""``edgekit compare A.json B.json``: two saved bench results, A relative to B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from edgekit.bench.compare import Comparison, check_comparable, compare_occasions, gate_slower, overall
from edgekit.bench.noisefloor import BUILT_IN, NoiseFloor, floor_of, wider
from edgekit.bench.result import blocks_of, owners_of
from edgekit.documents import parse_json, typed
from edgekit.errors import EdgekitError, GateError, InconclusiveError, InputError
from edgekit.inputs import read_regular
from edgekit.options.base import with_options
from edgekit.options.measure import CompareOptions
from edgekit.types import Verdict

SCHEMA = "edgekit.bench/1"
HOW = "give a file of 'edgekit bench … --json FILE'"
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class CompareResult:
    """Comparisons of all pairs found in both files; ``unmatched`` are settings that only one of them has.

    ``fail_slower``: percent, or None without a gate.
    """

    comparisons: tuple[Comparison, ...]
    unmatched: tuple[str, ...] = ()
    fail_slower: float | None = None

    @property
    def verdict(self) -> Verdict:
        return overall([comparison.verdict for comparison in self.comparisons])

    def failure(self) -> EdgekitError | None:
        """The error that ``fail_slower`` calls for, or None when it lets the result pass."""
        return gate_error(self.comparisons, self.fail_slower)

    def document(self) -> dict[str, Any]:
        """The body of the ``compare`` document."""
        body: dict[str, Any] = {
            "comparisons": [comparison.document() for comparison in self.comparisons],
            "verdict": self.verdict.value,
            "unmatched": list(self.unmatched),
        }
        return body | gate_document(self.comparisons, self.fail_slower)


@with_options(CompareOptions)
def compare(options: CompareOptions) -> CompareResult:
    """Compares the results saved in ``a`` with those in ``b`` (the baseline): ratio 0.5 means A takes half the time.

    With one result in each file the two are compared whatever they are called; else results of one model name,
    runtime, device, threads, batch and scenario are.

    Raises:
        InputError: a file that is not a saved bench result, or nothing in common.
        UnsupportedError: different evidence class or CPU.
    """
    first, second = read_document(options.a), read_document(options.b)
    floor = wider(floor_of(first), floor_of(second))
    return compare_entries(
        first["results"], second["results"], (str(options.a), str(options.b)), options.fail_slower, floor
    )


def compare_entries(
    entries_a: Sequence[Entry],
    entries_b: Sequence[Entry],
    names: tuple[str, str],
    fail_slower: float | None,
    floor: NoiseFloor = BUILT_IN,
) -> CompareResult:
    """Like :func:`compare`, of entries of ``results``; ``names`` says in messages where they come from.

    ``floor``: what is known of the machine, the wider of what the two results were made with.
    """
    pairs, unmatched = match(entries_a, entries_b)
    if not pairs:
        raise InputError(
            f"{names[0]} and {names[1]} have no result in common (model, runtime, device, threads, batch, scenario); "
            f"they hold: {'; '.join(unmatched)}"
        )
    comparisons = []
    for first, second in pairs:
        check_comparable(first, second)
        blocks = blocks_of(first, names[0]), blocks_of(second, names[1])
        owners = owners_of(first, len(blocks[0])), owners_of(second, len(blocks[1]))
        noisy = any((entry.get("noise") or {}).get("verdict") == "noisy" for entry in (first, second))
        found = compare_occasions(first["model"], second["model"], *blocks, owners, floor.when(noisy))
        runtimes = [first["runtime"], second["runtime"]]
        setting = {"device": first["device"]["name"], "threads": first["threads"], "runtimes": runtimes}
        comparisons.append(replace(found, setting=setting))
    return CompareResult(tuple(comparisons), tuple(unmatched), fail_slower)


def read_document(path: str | Path) -> dict[str, Any]:
    """A saved bench document, of whose ``results`` only those that finished are left.

    Raises:
        InputError: it cannot be read, is not JSON, or is not a bench document with a finished result.
    """
    document = parse_json(read_regular(path, InputError, f"a saved result; {HOW}", "DOCUMENT_BYTES"), InputError, path)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path} has the schema {str(schema)[:60]!r}, wanted {SCHEMA!r}; {HOW}")
    try:
        found = typed(_Document, document, "it")
        entries = [entry for entry in found.get("results", []) if "error" not in entry]
        entries = [typed(_Entry, entry, f"it.results[{k}]") for k, entry in enumerate(entries)]
    except ValueError as error:
        raise InputError(f"{path} is not a result of the bench: {error}; {HOW}") from error
    if not entries:
        raise InputError(f"{path} holds no finished result; run the bench again")
    return {**found, "results": entries}


class _Device(TypedDict):
    name: str
    evidence: str
    cpu: str | None


class _Setting(TypedDict):
    model: str
    runtime: str | None
    device: _Device
    threads: int
    batch: int
    scenario: str


class _Entry(_Setting, total=False):
    sha256: str
    workers: int
    noise: Mapping[str, Any] | None


class _Floor(TypedDict, total=False):
    runs: int
    revisits: int


class _Protocol(TypedDict, total=False):
    noise_floor: _Floor | None
    options: Mapping[str, Any] | None
    machines: list[Mapping[str, Any]] | None


class _Document(TypedDict, total=False):
    """A saved result, as far as it is read."""

    protocol: _Protocol | None
    results: list[Mapping[str, Any]]


def gate_error(comparisons: Sequence[Comparison], percent: float | None) -> EdgekitError | None:
    """What ``--fail-slower`` ends with: GateError if one is slower beyond it, else InconclusiveError, else None."""
    if percent is None:
        return None
    outcome = _outcomes(comparisons, percent)
    slower = [text for text, verdict in outcome if verdict is Verdict.SLOWER]
    if slower:
        return GateError(f"slower by more than {percent:g}%: {'; '.join(slower)}")
    open_ones = [text for text, verdict in outcome if verdict is Verdict.INCONCLUSIVE]
    if open_ones:
        return InconclusiveError(
            f"the noise does not allow to say whether it is slower by {percent:g}%: {'; '.join(open_ones)}; "
            "give more --seconds, or a quieter machine"
        )
    return None


def gate_document(comparisons: Sequence[Comparison], percent: float | None) -> dict[str, Any]:
    """``{"gate": {"fail_slower", "outcome"}}``, empty without a gate. Outcome: ``passed | slower | inconclusive``."""
    if percent is None:
        return {}
    verdict = overall([verdict for _, verdict in _outcomes(comparisons, percent)])
    return {"gate": {"fail_slower": percent, "outcome": "passed" if verdict is Verdict.SAME else verdict.value}}


def _outcomes(comparisons: Sequence[Comparison], percent: float) -> list[tuple[str, Verdict]]:
    return [(_describe(comparison), gate_slower(comparison, percent)) for comparison in comparisons]


def _describe(found: Comparison) -> str:
    if found.ratio is None or found.low is None or found.high is None:
        return f"{found.a} against {found.b}: {found.reason}"
    return f"{found.a} against {found.b}: ratio {found.ratio:.3f} [{found.low:.3f}, {found.high:.3f}]"


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
    fields = tuple(entry[key] for key in ("runtime", "threads", "batch", "scenario"))
    return (entry["model"] if whole else Path(entry["model"]).name, entry["device"]["name"], *fields)


def _name(entry: Entry) -> str:
    return f"{entry['model']} ({entry['runtime']}, {entry['device']['name']}, {entry['threads']} threads)"
