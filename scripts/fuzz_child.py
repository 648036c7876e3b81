"""The process of scripts/fuzz in which inputs are read: it watches what a reader does beside reading.

It is forked from a process that has everything imported, holds a folder of its own that stands for the user's home, and
answers with what became of each input. Whoever forked it watches its time and its memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fuzz_inputs import make
from fuzz_readers import Reader

from edgekit.errors import EdgekitError

MOST_MEMORY = 1 << 30
"""Bytes that one input may cost, in memory or on disk."""
HOMES = ("home", "cache", "state", "config", "temporary", "work")
LONGEST_LIFE = 400
"""Inputs after which a child is replaced by a fresh one."""
_PR_SET_PDEATHSIG = 1
_STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """What Python says it does while a reader is at work: programs, pickles, the network, files outside the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = f"{folder.resolve()}/"
        self.active = self.starts = False
        self.seen: list[str] = []
        sys.addaudithook(self.audit)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active:
            return
        self.active = False  # what is done here is not watched
        try:
            told = self._told(event, args)
            if told and told not in self.seen:
                self.seen.append(told)
        except RecursionError:
            return  # the reader is at the end of the stack, which it is about to find out by itself
        finally:
            self.active = True

    def _told(self, event: str, args: tuple[Any, ...]) -> str:
        if event == "pickle.find_class":
            return f"unpickles {args[0]}.{args[1]}"
        if event in _NETWORK and not self.starts:
            return f"network: {event} {args[1:]}"
        if event in _STARTS and not self.starts:
            return f"starts a program: {event} {str(args[:1])[:80]}"
        if event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            return self._outside("writes", args[0])
        if event in _CHANGES:
            places = args[:1] if event == "os.symlink" else args[:2]
            return next((told for place in places if (told := self._outside(event, place))), "")
        return ""

    def _outside(self, what: str, place: Any) -> str:
        if not isinstance(place, str | bytes | os.PathLike):
            return ""
        whole = os.path.realpath(os.fsdecode(place))
        if whole.startswith(self.folder) or whole in (os.devnull, "/dev/tty"):
            return ""
        return f"{what} outside: {whole[:120]}"


class Child:
    """Reads what it is sent. ``link``: to the process that forked it; ``folder``: its own."""

    def __init__(
        self, link: socket.socket, folder: Path, readers: Mapping[str, Reader], seeds: Mapping[str, list[Path]]
    ) -> None:
        self._link, self._folder, self._readers, self._seeds = link.makefile("rw"), folder, readers, seeds
        self._watch = Watch(folder)

    def serve(self) -> None:
        """Until the link ends, or it has lived long enough."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._move_in()
        for _ in range(LONGEST_LIFE):
            line = self._link.readline()
            if not line:
                return
            self._say(self._read(**json.loads(line)))

    def _say(self, message: Mapping[str, Any]) -> None:
        self._link.write(json.dumps(message) + "\n")
        self._link.flush()

    def _move_in(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in (*HOMES, "in"):
            (self._folder / name).mkdir(parents=True)
        names = {"HOME": "home", "XDG_CACHE_HOME": "cache", "EDGEKIT_CACHE": "cache", "XDG_STATE_HOME": "state",
                 "XDG_CONFIG_HOME": "config", "TMPDIR": "temporary"}  # fmt: skip
        os.environ |= {key: str(self._folder / name) for key, name in names.items()}
        os.environ.pop("EDGEKIT_DATA", None)
        tempfile.tempdir = None
        os.chdir(self._folder / "work")

    def _read(self, name: str, seed: int, index: int, trace: bool) -> dict[str, Any]:
        reader, folder = self._readers[name], self._folder / "in"
        given = make(name, reader, self._seeds[name], seed, index)
        path = given.written(folder)
        before = {p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
        self._say({"reading": name})
        start = _forget_peak()
        self._watch.starts, self._watch.seen = reader.starts, []
        outcome, told = self._opened(reader, path, trace)
        peak = _memory("VmHWM") - start
        faults = [f"writes or runs: {seen}" for seen in self._watch.seen]
        left, size = self._left(before, accepted=outcome == "accepted")
        faults += left
        if max(peak, size) > MOST_MEMORY:
            faults.append("over 1 GB")
        if outcome == "untyped":
            faults.append(told)
        return {"outcome": outcome, "told": told[:300], "faults": faults, "peak": max(peak, size)}

    def _opened(self, reader: Reader, path: Path, trace: bool) -> tuple[str, str]:
        try:
            self._watch.active = True
            reader.open(path)
        except EdgekitError as error:
            return "refused", f"{type(error).__name__}: {error}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._watch.active = False
            if trace:
                traceback.print_exception(error)
            return "untyped", f"{type(error).__name__} at {_place(error)}: {' '.join(str(error).split())[:160]}"
        finally:
            self._watch.active = False
        return "accepted", ""

    def _left(self, before: set[Path], *, accepted: bool) -> tuple[list[str], int]:
        """Files that a reader left, as faults, and their bytes; everything is as before afterwards.

        What was accepted may stand in the cache, and so may an archive that was, whatever is in it.
        """
        size, faults = 0, []
        for folder in (*HOMES, "in"):
            top = self._folder / folder
            found = [p for p in top.rglob("*") if (p.is_symlink() or not p.is_dir()) and p not in before]
            size += sum(p.lstat().st_size for p in found)
            if folder == "cache":
                found = [p for p in found if not (accepted or _is_whole(p.relative_to(top)))]
            if found:
                faults.append(f"leaves {folder}/{found[0].relative_to(top)}"[:160])
        for folder in (*HOMES, "in"):
            for entry in (self._folder / folder).iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for place in (self._folder / "outside", self._folder.parent / "outside", Path("/outside")):
            if place.exists():
                faults.append(f"writes {place.name} outside of its folder")
                place.unlink()
        return faults, size


def _is_whole(place: Path) -> bool:
    """Whether a place in the cache is an archive that was unpacked to its end."""
    return len(place.parts) > 2 and place.parts[0] == "unpacked" and not place.parts[1].startswith((".", "tmp"))


def _forget_peak() -> int:
    """Resident bytes now; from now on the peak is that of what follows."""
    gc.collect()
    with contextlib.suppress(OSError):  # a kernel without it: the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmHWM")


def _memory(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{key}:")[2].split()[0]) << 10


def _place(error: BaseException) -> str:
    """Where in edgekit an error came from."""
    frames = list(traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False))
    own = [
        frame
        for frame in frames
        if "/edgekit/" in frame.filename or "/models/" in frame.filename or "/converters/" in frame.filename
    ]
    frame = own[-1] if own else frames[-1]
    return f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.name}"


class Formats(logging.Handler):
    """Every line of the log is put together, so that one that cannot be is seen."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What libraries print goes nowhere."""
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        for kept, target in zip(saved, (1, 2), strict=True):
            os.dup2(kept, target)
            os.close(kept)
        os.close(nowhere)
