"""Files that a stranger made, given to every reader of edgekit; see scripts/fuzz.

Each input is made of the corpus and a seed, the same every time, and read in a child process. A fault is an exception
that is not an EdgekitError, more than 5 s (without what other programs took of the processor, and again when it is
tried a second time), more than 1 GB of memory or disk, a crash, a file written, a program started or a pickle opened,
and a file left behind. With --commands whole command lines are run. Exit code 1 when there is a fault.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from random import Random

from fuzz_archives import prepare
from fuzz_child import Formats, quiet
from fuzz_commands import PROGRAM, Maker, fresh, run
from fuzz_corpus import GROUPS
from fuzz_inputs import make, seeds_of
from fuzz_page import made_on, written
from fuzz_page import table as page_table
from fuzz_pool import Job, Outcome, Pool, deck
from fuzz_readers import READERS, Reader, planted

from edgekit import registry

HERE = Path(__file__).parent
CORPUS = HERE.parent / "runs" / "fuzz" / "corpus"
TOLD = 500
"""Inputs after which it is said how many there were."""
COLUMNS = ("inputs", "refused", "accepted", "untyped", "over time", "over 1 GB", "other faults")


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    asked = options.only or ""
    faults = 0
    if options.devices or asked.startswith("device:"):
        faults += devices(options)
    if options.commands or asked.startswith("command:"):
        faults += commands(options)
    if options.inputs:
        faults += inputs(options)
    return 1 if faults else 0


def inputs(options: argparse.Namespace) -> int:
    """Single files, each to its reader; the number of faults."""
    readers = chosen_readers(options)
    corpus = made_corpus(options.corpus, readers)
    seeds = {name: seeds_of(corpus, name, reader) for name, reader in readers.items()}
    for name in [name for name, found in seeds.items() if not found]:
        print(f"fuzz: {name} is left out: it needs {readers.pop(name).needs}", file=sys.stderr)
    table = Table(readers, seeds, options.seed, options.keep)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        warm_up(readers, seeds, Path(folder) / "warm")
        pool = Pool(readers, seeds, Path(folder), options.seed, 1 if options.only else options.jobs)
        jobs = iter([one(options.only)]) if options.only else within(options.seconds, deck(readers, options.inputs))
        started = time.monotonic()
        pool.run(jobs, table.add, trace=bool(options.only))
    seconds = time.monotonic() - started
    print(table.text())
    print(f"{table.total:,} inputs, seed {options.seed}, {seconds:.0f} s: {table.count} faults")
    if options.write:
        written("inputs", "\n".join([*made_on(f"scripts/fuzz --inputs {table.total}", seconds), *table.page()]))
    return table.count


def commands(options: argparse.Namespace) -> int:
    """Whole command lines; the number of faults."""
    maker = Maker(made_corpus(options.corpus, READERS), options.seed)

    def done(number: int, folder: Path) -> tuple[str, int, list[str], str]:
        case = maker.case(number, fresh(folder))
        ended = run(case, folder)
        return str(case), ended.code, ended.faults, ended.printed

    return whole(options, "command", range(options.commands), done)


def devices(options: argparse.Namespace) -> int:
    """Devices that answer wrongly, from the catalogue of the tests; the number of faults."""
    sys.path.insert(0, str(HERE.parent / "tests" / "devices"))
    hostile_runs = importlib.import_module("hostile_runs")
    behaviours = [behaviour for _, behaviour in hostile_runs.catalogue()]
    chosen = Random(options.seed).sample(range(len(behaviours)), min(options.devices, len(behaviours)))

    def done(number: int, folder: Path) -> tuple[str, int, list[str], str]:
        folder.mkdir(parents=True)
        outcome = hostile_runs.run(behaviours[number], folder, edgekit=str(PROGRAM))
        printed = (outcome.out + outcome.err).decode("utf-8", "backslashreplace")
        return f"{outcome.name}: edgekit {' '.join(outcome.command)}", outcome.code, outcome.faults, printed

    return whole(options, "device", chosen, done)


Done = Callable[[int, Path], tuple[str, int, list[str], str]]
"""(number, folder) -> what was run, its exit code, its faults, what it printed."""


def whole(options: argparse.Namespace, kind: str, numbers: Sequence[int], done: Done) -> int:
    """Runs of whole programs, several at a time; the number of faults."""
    numbers = [int(options.only.partition(":")[2])] if options.only else numbers
    codes, count, started = Counter[int](), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as top, ThreadPoolExecutor(options.jobs) as threads:

        def one_of(number: int) -> tuple[int, tuple[str, int, list[str], str]]:
            folder = Path(top) / f"{kind}-{number}"
            found = done(number, folder)
            if found[2] and options.keep is not None:
                target = options.keep / folder.name
                shutil.copytree(folder, target, symlinks=True, dirs_exist_ok=True, copy_function=kept)
            shutil.rmtree(folder)
            return number, found

        for number, (told, code, faults, printed) in threads.map(one_of, numbers):
            codes[code] += 1
            count += len(faults)
            for fault in faults:
                print(f"FAULT {kind}:{number} {fault}\n      {told}", flush=True)
            if options.only:
                print(f"{told}\n{printed}\nexit code {code}")
    seconds = time.monotonic() - started
    shown = ", ".join(f"{codes[code]} × {code}" for code in sorted(codes))
    print(f"{len(numbers)} {kind}s, seed {options.seed}, {seconds:.0f} s: {count} faults; exit codes {shown}")
    if options.write:
        lines = made_on(f"scripts/fuzz --{kind}s {len(numbers)}", seconds)
        rows = {f"exit code {code}": [codes[code]] for code in sorted(codes)} | {"faults": [count]}
        written(f"{kind}s", "\n".join([*lines, *page_table((f"{kind}s", len(numbers)), rows)]))
    return count


def kept(source: str, target: str) -> None:
    """Copies a plain file; nodes and sockets are not needed to see what happened."""
    if Path(source).is_file():
        shutil.copyfile(source, target)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, metavar="N", help="inputs over all readers together (3000)")
    parser.add_argument("--commands", type=int, default=0, metavar="N", help="whole command lines")
    parser.add_argument("--devices", type=int, default=0, metavar="N", help="devices that answer wrongly")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (0)")
    parser.add_argument("--seconds", type=float, metavar="S", help="no new input after this time")
    parser.add_argument("--readers", metavar="A,B", help=f"of {', '.join(READERS)}")
    parser.add_argument("--only", metavar="READER:N", help="one input, with the traceback")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where inputs with a fault are kept")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/security.md")
    parser.add_argument(
        "--corpus", type=Path, default=CORPUS, help=f"the files to start from ({CORPUS}); made where missing"
    )
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    parser.add_argument("--plant", action="append", default=[], metavar="MODULE:FUNCTION",
                        help="a reader that is not one of edgekit's: shows that faults are seen")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.inputs is None:
        alone = options.commands or options.devices or (options.only or "").startswith(("command:", "device:"))
        options.inputs = 0 if alone else 3000
    return options


def chosen_readers(options: argparse.Namespace) -> dict[str, Reader]:
    known = READERS | {spelled.partition(":")[2]: planted(spelled) for spelled in options.plant}
    if options.only:
        return {name: known[name] for name in [options.only.rpartition(":")[0]]}
    if not options.readers:
        return dict(known)
    names = options.readers.split(",")
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise SystemExit(f"fuzz: no reader is called {', '.join(unknown)}; there are: {', '.join(known)}")
    return {name: known[name] for name in names}


def one(spelled: str) -> Job:
    name, _, number = spelled.rpartition(":")
    return Job(name, int(number))


def made_corpus(folder: Path, readers: Mapping[str, Reader]) -> Path:
    """The corpus for some readers; what is not there, or was made by another version, is made."""
    sources = b"".join((HERE / f"fuzz_{name}.py").read_bytes() for name in ("corpus", "corpus_models", "archives"))
    stamp = hashlib.sha256(sources).hexdigest()
    kinds = {reader.seeds or name for name, reader in readers.items()}
    groups = {GROUPS[kind].__name__ for kind in kinds}
    for kind, group in GROUPS.items():
        mark = folder / f".{group.__name__}"
        if mark.is_file() and mark.read_text() == stamp:
            groups.discard(group.__name__)
        elif group.__name__ in groups:
            shutil.rmtree(folder / kind, ignore_errors=True)
    if groups:
        print(f"fuzz: making {', '.join(sorted(groups))} in {folder}", file=sys.stderr)
        command = [sys.executable, str(HERE / "fuzz_corpus.py"), str(folder), *sorted(groups)]
        with quiet():
            subprocess.run(command, check=True)
        for name in groups:
            (folder / f".{name}").write_text(stamp)
    return folder


def warm_up(readers: Mapping[str, Reader], seeds: Mapping[str, list[Path]], folder: Path) -> None:
    """Every good seed is read once: what readers import is imported, and they do take what is good.

    Raises:
        SystemExit: a reader refuses a good file.
    """
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # a third of all time; no package comes meanwhile
    vars(registry)["entry_points"] = cache(vars(registry)["entry_points"])
    prepare()
    os.environ |= {"EDGEKIT_CACHE": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    log = logging.getLogger("edgekit")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(Formats())
    warnings.simplefilter("ignore")
    refused = []
    with quiet():
        for name, reader in readers.items():
            for index, seed in enumerate(seeds[name]):
                place = folder / name.replace(" ", "-") / seed.name
                place.mkdir(parents=True)
                if reader.planted or seed.name.startswith("hostile") or (reader.starts and index):
                    continue
                try:
                    reader.open(make(name, reader, seeds[name], 0, index).written(place))
                except Exception as error:
                    refused.append(f"{name}, {seed.name}: {error}")
    if refused:
        remedy = "; where another version of edgekit made them, remove the folder of the corpus"
        raise SystemExit("fuzz: good files are refused:\n" + "\n".join(refused) + remedy)


def within(seconds: float | None, jobs: Iterator[Job]) -> Iterator[Job]:
    """The inputs that can be begun in a time."""
    end = None if seconds is None else time.monotonic() + seconds
    return itertools.takewhile(lambda _: end is None or time.monotonic() < end, jobs)


class Table:
    """What became of the inputs of each reader. ``keep``: where those with a fault are written."""

    def __init__(
        self, readers: Mapping[str, Reader], seeds: Mapping[str, list[Path]], seed: int, keep: Path | None
    ) -> None:
        self._readers, self._seeds, self._seed, self._keep = readers, seeds, seed, keep
        self.rows: dict[str, Counter[str]] = {name: Counter() for name in readers}
        self.kinds: dict[tuple[str, str], list[Job]] = defaultdict(list)
        self.slowest: dict[str, float] = dict.fromkeys(readers, 0.0)
        self.largest: dict[str, int] = dict.fromkeys(readers, 0)

    @property
    def total(self) -> int:
        return sum(row["inputs"] for row in self.rows.values())

    @property
    def count(self) -> int:
        return sum(row[key] for row in self.rows.values() for key in COLUMNS[3:])

    def add(self, found: Outcome) -> None:
        name = found.job.reader
        row = self.rows[name]
        row["inputs"] += 1
        if self.total % TOLD == 0:
            print(f"fuzz: {self.total:,} inputs", file=sys.stderr, flush=True)
        if found.outcome in ("refused", "accepted"):
            row[found.outcome] += 1
        self.slowest[name] = max(self.slowest[name], found.seconds)
        self.largest[name] = max(self.largest[name], found.peak)
        for fault in found.faults:
            over = "over 1 GB" if fault == "over 1 GB" else "over time" if fault.startswith("over ") else "other faults"
            row["untyped" if found.outcome == "untyped" and fault == found.told else over] += 1
            kind = name, fault.partition(": ")[0] if found.outcome == "untyped" and fault == found.told else fault
            if not self.kinds[kind]:
                self._report(found.job, fault)
            self.kinds[kind].append(found.job)

    def _report(self, job: Job, fault: str) -> None:
        print(f"FAULT {job} {fault}\n      scripts/fuzz --seed {self._seed} --only '{job}'", flush=True)
        if self._keep is not None:
            place = self._keep / f"{job.reader.replace(' ', '-')}-{self._seed}-{job.index}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            make(job.reader, self._readers[job.reader], self._seeds[job.reader], self._seed, job.index).written(place)

    def page(self) -> list[str]:
        """The table for the page."""
        rows: dict[str, list[object]] = {}
        for name, row in self.rows.items():
            rows[name] = [f"{row[key]:,}" for key in COLUMNS]
            rows[name] += [f"{self.slowest[name]:.1f}", f"{self.largest[name] / 2**20:.0f}"]
        rows["**all**"] = [f"{sum(row[key] for row in self.rows.values()):,}" for key in COLUMNS]
        rows["**all**"] += [f"{max(self.slowest.values()):.1f}", f"{max(self.largest.values()) / 2**20:.0f}"]
        return page_table(("reader", *COLUMNS, "slowest, s", "most memory, MB"), rows)

    def text(self) -> str:
        """The table, a row a reader, and every kind of fault with how often it was seen."""
        wide = max(map(len, self.rows))
        lines = [f"{'reader':{wide}}" + "".join(f"{key:>13}" for key in COLUMNS) + "   slowest s  most MB"]
        for name, row in self.rows.items():
            cells = "".join(f"{row[key]:13,}" for key in COLUMNS)
            lines.append(f"{name:{wide}}{cells}{self.slowest[name]:12.2f}{self.largest[name] / 2**20:9.0f}")
        ordered = sorted(self.kinds.items(), key=lambda item: -len(item[1]))
        lines += [f"{len(jobs):6,} × {name}: {kind}   {jobs[0]}" for (name, kind), jobs in ordered]
        return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
