"""Command lines for ``scripts/fuzz --commands``: mutated files, odd names and outputs, closed streams, tight limits.

A fault is a traceback, "internal error", an exit code that README does not name, a control character in what is
printed, a file that was left behind, and more than a minute (as many as there are programs for each processor).
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz_inputs import make, seeds_of
from fuzz_pool import crowding
from fuzz_readers import READERS

SECONDS = 60.0
CODES = frozenset({0, 1, 2, 3, 4, 5, 130, 141, 143})
"""What README says a command can end with; 141 is what a program has whose reader went away."""
FINISHED = (0, 1, 4, 5)
"""Exit codes with which a document of ``--json`` is written: done, or a verdict, or a device that failed."""
PROGRAM = Path(sys.executable).with_name("edgekit")
KINDS: Mapping[str, tuple[str, ...]] = {
    "model": ("onnx", "tflite", "pt2", "savedmodel", "card"), "graph": ("onnx", "tflite"), "onnx": ("onnx",),
    "source": ("checkpoint", "pt2", "checkpoint card", "keras", "hf"),
    "sample": ("image", "wav", "text", "npz", "npy"), "table": ("table",), "series": ("series",), "text": ("text",),
    "images": ("images",), "audio": ("audio",), "npz": ("npz",), "bench": ("bench",), "calibration": ("calibration",),
    "recipe": ("recipe",), "plan": ("plan",),
}  # fmt: skip
"""Word in a template -> readers whose inputs stand for it."""
TEMPLATES = (
    "inspect {model}", "inspect {model} --json OUT", "inspect {calibration}", "run {model} {sample}",
    "run {model} {sample} {sample} -o OUT.npz", "run {card} {image} --json OUT",
    "eval {graph} --data npz:{npz} --limit 5", "eval {card} --data table:{table} --limit 5",
    "eval {card} --data images:{images} --limit 5 --json OUT", "eval {card} --data text:{text}",
    "eval {card} --data audio:{audio} --limit 2", "eval {card} --data series:{series}",
    "verify {graph} --against {graph}", "verify {onnx} --against {source}", "compare {bench} {bench}",
    "compare {bench} {bench} --fail-slower 5 --json OUT", "bench {graph} --seconds 0.2 --json OUT",
    "bench {onnx} --seconds 0.2 --baseline {bench}", "bench --replay {bench}",
    "bench {onnx} --seconds 0.2 --input {sample}", "recipe check {recipe}", "recipe show {recipe} --json OUT",
    "export {source} --to pt2 -o OUTDIR", "export {source} --to onnx -o OUTDIR --name x",
    "quantize {onnx} --scheme int8-dynamic -o OUT.onnx",
    "quantize {onnx} --scheme int8 --calibration {calibration} -o OUT.onnx --data table:{table}",
    "quantize {onnx} --scheme int8 --mixed -o OUT.json --data npz:{npz}",
    "prune {source} --amount 0.5 -o OUT.safetensors", "train mlp --data table:{table} --epochs 1 -o OUT.safetensors",
    "finetune {source} --data table:{table} --epochs 1 -o OUT.safetensors", "device list --json OUT",
    "device add {name} cpu", "device remove {name}", "device check {name}", "bench {onnx} --on {name}",
    "models --json OUT", "doctor --quick --json OUT", "{name} {name}", "inspect {name}", "run {model} {name}",
    "--{name}",
)  # fmt: skip
ODD = (
    b"new\nline", b"\x1b[31mred\x1b]0;title\x07", b"-rf", b"--json", b"x" * 240, b"\xff\xfe\x80", b" ", b"trailing ",
    b"a@train", b"a,b=c:d", b"%s%n", b"{0}", b"$(touch outside)", b"`touch outside`", b"; touch outside",
    "\u202e\u2066gpj.".encode(), b"\xc2\x9b31m", b"tab\there", b"carriage\rreturn", "é漢字".encode(), b"..", b"'\"",
    b"*",
)  # fmt: skip
NAMES = (
    *ODD,
    b"x" * 5000,
    b"",
    b"/",
    b".",
    b"/nowhere/at/all",
    b"\x00"[:0],
    b"cpu",
    b"pi",
    b"ssh://-oProxyCommand=touch%20outside",
    b"9" * 5000,
)
OUTPUTS = (
    "file",
    "file",
    "file",
    "fifo",
    "fifo closed",
    "null",
    "full",
    "folder",
    "nowhere",
    "link",
    "dangling",
    "descriptor",
    "-",
)
STREAMS = ("", "", "", "", "no stdin", "no stdout", "no stderr", "none", "head", "full")
LIMITS: tuple[Mapping[str, int], ...] = (
    {}, {}, {}, {}, {"NOFILE": 8}, {"NOFILE": 16}, {"NOFILE": 40}, {"FSIZE": 0}, {"FSIZE": 4096}, {"AS": 500 << 20},
    {"AS": 1 << 30}, {"AS": 3 << 30}, {"NPROC": 1}, {"CORE": 0}, {"STACK": 1 << 20},
)  # fmt: skip
HEAVY = ("models", "verify", "recipe", "export", "quantize", "prune", "train", "finetune")
"""Commands that import torch, TensorFlow or LiteRT's converter: with less memory those end the process themselves."""
SIGNALS = (0,) * 12 + (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Output:
    """A file that a command line names: what it held before (None: it is an empty folder), and the exit codes with
    which it may be written."""

    place: Path
    before: bytes | None
    codes: tuple[int, ...]


@dataclass
class Case:
    """One command line. ``outputs``: what it names; ``streams``, ``limits``, ``sent``: what it runs under."""

    words: list[bytes]
    streams: str
    limits: Mapping[str, int]
    sent: int
    after_s: float
    outputs: list[Output] = field(default_factory=list)
    readers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        limits = " ".join(f"{name}={value}" for name, value in self.limits.items())
        sent = f"{signal.Signals(self.sent).name} after {self.after_s:.1f} s" if self.sent else ""
        words = " ".join(shlex.quote(os.fsdecode(word))[:80] for word in self.words)
        return " · ".join(text for text in (f"edgekit {ascii(words)[1:-1]}", self.streams, limits, sent) if text)


class Maker:
    """Makes case ``index`` of a seed in a folder, the same every time."""

    def __init__(self, corpus: Path, seed: int) -> None:
        self._seed = seed
        self._seeds = {name: seeds_of(corpus, name, reader) for name, reader in READERS.items()}

    def case(self, index: int, folder: Path) -> Case:
        rng = Random(f"{self._seed}/command/{index}")
        template = TEMPLATES[index % len(TEMPLATES)] if index < 2 * len(TEMPLATES) else rng.choice(TEMPLATES)
        case = Case([], rng.choice(STREAMS), rng.choice(LIMITS), rng.choice(SIGNALS), rng.uniform(0.1, 3.0))
        if "AS" in case.limits and template.startswith(HEAVY):
            case.limits = {"AS": 6 << 30}
        for number, word in enumerate(template.split()):
            case.words.append(self._filled(rng, word, folder, number, case))
        if "config" not in template and rng.random() < 0.15:
            devices = make("devices", READERS["devices"], self._seeds["devices"], self._seed, rng.randrange(10**6))
            devices.written(folder / "config")
        return case

    def _filled(self, rng: Random, word: str, folder: Path, number: int, case: Case) -> bytes:
        if word.startswith("OUT"):
            return _output(rng, word, folder / "work", case)
        before, brace, rest = word.partition("{")
        if not brace:
            return word.encode()
        kind, _, after = rest.partition("}")
        if kind == "name":
            return before.encode() + rng.choice(NAMES)
        return before.encode() + os.fsencode(self._file(rng, kind, folder / "in" / str(number))) + after.encode()

    def _file(self, rng: Random, kind: str, folder: Path) -> Path:
        """An input of one of the kind's readers: one in three good, one in three under an odd name."""
        names = [name for name in KINDS.get(kind, (kind,)) if self._seeds[name]]
        name = rng.choice(names)
        seeds = self._seeds[name]
        good = [k for k, seed in enumerate(seeds) if not seed.name.startswith("hostile")]
        index = rng.choice(good) if rng.random() < 0.35 else 10**6 + rng.randrange(10**6)
        folder.mkdir(parents=True)
        path = make(name, READERS[name], seeds, self._seed, index).written(folder)
        if path != folder and rng.random() < 0.33 and os.path.lexists(path):
            renamed = path.parent / os.fsdecode(rng.choice(ODD[:-3]) + path.suffix.encode())
            path.rename(renamed)
            return renamed
        return path


def _output(rng: Random, word: str, folder: Path, case: Case) -> bytes:
    """A place to write to, of every kind there is."""
    number = len(case.words)
    place = target = folder / f"out-{number}{word[3:].removeprefix('DIR')}"
    kind = "file" if word.endswith("DIR") else rng.choice(OUTPUTS)
    codes: tuple[int, ...] = (0,)
    if case.words[-1] == b"--json":  # 3: it stands before the table is printed, for which there may be no space
        codes = (*FINISHED, 3) if case.streams == "full" or "FSIZE" in case.limits else FINISHED
    if kind == "-":
        return b"-"
    if kind in ("null", "full") and os.geteuid() == 0:
        os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 3 if kind == "null" else 7))
    elif kind.startswith("fifo"):
        os.mkfifo(place)
        reader = ["cat"] if kind == "fifo" else ["head", "-c", "1"]
        case.readers.append(subprocess.Popen([*reader, str(place)], stdout=subprocess.DEVNULL))
    elif kind == "folder":
        place.mkdir()
    elif kind == "nowhere":
        return os.fsencode(folder / "nowhere" / place.name)
    elif kind in ("link", "dangling"):
        target = folder / f"target-{number}{place.suffix}"
        if kind == "link":
            target.write_text("old")
        place.symlink_to(target.name)
        case.outputs.append(Output(place, b"", codes))
    elif kind == "descriptor":
        case.descriptors.append(os.open(target, os.O_WRONLY | os.O_CREAT))
    before = None if kind == "folder" else target.read_bytes() if kind == "link" else b""
    case.outputs.append(Output(target, before, codes))
    if kind == "descriptor":
        return b"/dev/fd/%d" % case.descriptors[-1]
    return os.fsencode(place) if rng.random() < 0.5 else os.fsencode(place.name)


@dataclass
class Ended:
    """How a command ended."""

    code: int
    seconds: float
    printed: str
    faults: list[str]


def run(case: Case, folder: Path) -> Ended:
    """Runs a case; everything of it is ended when this returns."""
    log = folder / "printed"
    started = time.monotonic()
    with open(log, "wb") as printed:
        streams, more = _streams(case.streams, printed, folder)
        process = subprocess.Popen(
            [os.fsencode(PROGRAM), *case.words],
            cwd=folder / "work",
            env=_environment(folder),
            preexec_fn=lambda: _begin(case),
            pass_fds=case.descriptors,
            start_new_session=True,
            **streams,
        )
        for ending in more:
            ending(process)
        timer = threading.Timer(case.after_s, process.send_signal, (case.sent,))  # 0: nothing is sent
        timer.start()
        late = not (_ended(process, SECONDS) or _ended(process, SECONDS * (crowding() - 1)))
        timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        code = 128 - code if code < 0 else code  # as a shell has it
    for reader in case.readers:
        reader.kill()
        reader.wait()
    for descriptor in case.descriptors:
        os.close(descriptor)
    text = log.read_bytes().decode("utf-8", "backslashreplace")
    faults = [f"over {SECONDS:g} s"] if late else list(_faults(case, code, text, folder))
    return Ended(code, time.monotonic() - started, text, faults)


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def _begin(case: Case) -> None:
    for name, value in case.limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    if case.streams in ("no stdin", "none"):
        os.close(0)
    if case.streams in ("no stdout", "none"):
        os.close(1)
    if case.streams in ("no stderr", "none"):
        os.close(2)


def _streams(kind: str, printed: Any, folder: Path) -> tuple[dict[str, Any], list[Callable[[Any], None]]]:
    """The three streams, and what is to be done once the program runs."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": printed, "stderr": printed}
    if kind == "head":
        return streams | {"stdout": subprocess.PIPE}, [_read_a_little]
    if kind == "full" and os.geteuid() == 0:
        node = folder / "full"
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        out = open(node, "wb", buffering=0)  # noqa: SIM115  # closed once the program has it
        return streams | {"stdout": out}, [lambda _: out.close()]
    return streams, []


def _read_a_little(process: Any) -> None:
    process.stdout.read(1)
    process.stdout.close()


def _environment(folder: Path) -> dict[str, str]:
    names = {
        "HOME": "home",
        "XDG_CACHE_HOME": "cache",
        "XDG_STATE_HOME": "state",
        "XDG_CONFIG_HOME": "config",
        "TMPDIR": "temporary",
    }
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    environment |= {key: str(folder / name) for key, name in names.items()}
    lease = {
        "EDGEKIT_LEASE": str(folder / "lease"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return environment | lease | {"TF_CPP_MIN_LOG_LEVEL": "3", "EDGEKIT_MIRROR": "http://127.0.0.1:9"}


def _faults(case: Case, code: int, text: str, folder: Path) -> Iterator[str]:
    if code not in CODES:
        yield f"exit code {code}: {_last(text)}"
    if "Traceback (most recent call last)" in text:
        yield f"traceback: {_last(text)}"
    if "internal error" in text:
        yield "internal error: " + text.partition("internal error: ")[2].splitlines()[0][:160]
    odd = sorted({char for char in text if _is_control(char)})
    if odd:
        yield f"control characters: {ascii(''.join(odd))[:40]}"
    for left in _left(case, code, folder):
        yield f"leaves {left}"


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return ascii(lines[-1])[1:161] if lines else "nothing was said"


def _is_control(char: str) -> bool:
    number = ord(char)
    return (
        (number < 32 and char not in "\n\t\r")
        or 127 <= number < 160
        or 0x202A <= number <= 0x202E
        or 0x2066 <= number <= 0x2069
    )


def _left(case: Case, code: int, folder: Path) -> Iterator[str]:
    """What is there and may not be: anything in home and in the temporary folder, outputs of a command that failed."""
    stopped = code in (130, 141, 143)
    for top in ("home", "temporary", "work"):
        for path in sorted((folder / top).rglob("*")):
            named = next((one for one in case.outputs if path == one.place or one.place in path.parents), None)
            journal = path.suffix == ".part" and path.stat().st_size and (stopped or code in FINISHED)
            if journal or (named is not None and (stopped or code in named.codes or _as_before(path, named.before))):
                continue
            yield f"{top}/{ascii(str(path.relative_to(folder / top)))[1:-1]}"[:160]
    for place in (folder / "outside", folder.parent / "outside", Path("/outside")):
        if place.exists():
            yield f"{place.name} outside of its folder"


def _as_before(path: Path, before: bytes | None) -> bool:
    mode = path.lstat().st_mode
    if before is None:
        return stat.S_ISDIR(mode) and not any(path.iterdir())
    return (not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)) or (stat.S_ISREG(mode) and path.read_bytes() == before)


def fresh(folder: Path) -> Path:
    """An empty folder for a case, with the user's home in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("home", "cache", "state", "config", "temporary", "work", "in"):
        (folder / name).mkdir(parents=True)
    return folder
