"""Where a file can run: the runtimes that are installed on the device, and the thread counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.devices import open_runner, with_runtime
from edgekit.errors import ModelError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.registry import names
from edgekit.runtime import runner_class
from edgekit.runtime.precision import in_float32, precision_of
from edgekit.types import Artifact, DeviceSpec, Format


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a file. ``device`` is the one that was asked for, or another interpreter on it."""

    device: DeviceSpec
    runtime: str
    threads: int

    @property
    def in_fewer_bits(self) -> bool:
        """Whether the runtime computes with fewer bits than the file's float32."""
        return precision_of(self.runtime) != "float32"

    @property
    def name(self) -> str:
        """``litert``, ``litert × 2 threads``."""
        return self.runtime if self.threads == 1 else f"{self.runtime} × {self.threads} threads"


def find_ways(
    parents: Sequence[Artifact], device: DeviceSpec, runtimes: Sequence[str], threads: Sequence[int]
) -> tuple[dict[Format, tuple[Way, ...]], tuple[str, ...]]:
    """Format -> the ways to run it on ``device``, and what to say of those that are not there: of a runtime that is not
    installed, or a precision that the CPU has not, where it was asked for; of a float file that a runtime refuses.
    Without ``runtimes`` all are tried that are installed.

    Raises:
        UsageError: no such runtime, or one that runs none of the files.
        DeviceError: the device cannot be used.
    """
    found: dict[Format, tuple[Way, ...]] = {}
    notes: list[str] = []
    _check_runtimes(runtimes, [parent.format for parent in parents])
    for parent in parents:
        ways: list[Way] = []
        for place, runtime in _places(device, parent.format, runtimes):
            try:
                with open_runner(parent.path, device=place, runtime=runtime):
                    pass
            except RuntimeMissingError:
                if runtimes:
                    notes.append(f"{runtime} is not installed on {place.name}, so nothing was tried in it")
                continue
            except (ModelError, UnsupportedError) as error:
                if runtimes or in_float32(runtime) == runtime:
                    notes.append(f"{runtime} on {place.name} does not take the float .{parent.format}: {error}")
                continue
            ways += [Way(place, runtime, count) for count in dict.fromkeys(threads)]
        found[parent.format] = tuple(ways)
    return found, tuple(notes)


def _check_runtimes(wanted: Sequence[str], formats: Sequence[Format]) -> None:
    for name in wanted:
        fitting = runner_class(name).formats
        if not runner_class(name).timed:
            raise UsageError(f"{name} stands for another device, and --scheme auto chooses by time; leave it out")
        if not set(fitting) & set(formats):
            raise UsageError(
                f"{name} runs .{', .'.join(fitting)} files, there are .{', .'.join(formats)}; leave it out"
            )


def _places(device: DeviceSpec, format_: Format, wanted: Sequence[str]) -> list[tuple[DeviceSpec, str]]:
    """Interpreters and runtimes that may run ``format_``; SavedModel's runtime reads TFLite only as a way round."""
    runtimes = wanted or [
        name
        for base in names("runtimes")
        if base != "tensorflow" and runner_class(base).timed
        for name in (base, *(f"{base}:{variant}" for variant in runner_class(base).beside))
    ]
    fitting = [name for name in dict.fromkeys(runtimes) if format_ in runner_class(name).formats]
    return [(with_runtime(device, name), name) for name in fitting]
