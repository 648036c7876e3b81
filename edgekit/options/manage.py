"""Options of ``device``, ``doctor``, ``models`` and ``recipe``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.options.base import Options, option
from edgekit.options.shared import ON

_RECIPE = option("A .toml file, or a name of 'edgekit models'.", metavar="RECIPE", takes="words")
_FOLDER = option("Folder for the files; runs/NAME without it.", metavar="DIR", flags=("-o", "--out"))
_NAME = option("Name of the device for --on.", metavar="NAME", takes="words")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsOptions(Options):
    """What is asked of ``models``: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions(Options):
    """What is asked of ``doctor``."""

    on: str = field(default="cpu", metadata=ON)
    quick: bool = field(default=False, metadata=option("List what is installed, try nothing."))


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesOptions(Options):
    """What is asked of ``device list``."""

    state: bool = field(
        default=True,
        metadata=option(
            "Ask every saved device how it is: ready, leased (by whom, until when) or not (default: yes).",
            off="--no-state",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAddOptions(Options):
    """What is asked of ``device add``."""

    name: str = field(kw_only=False, metadata=_NAME)
    address: str = field(
        kw_only=False,
        metadata=option("Where it is: ssh://user@host, emulator:cortex-a72.", metavar="ADDRESS", takes="words"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCheckOptions(Options):
    """What is asked of ``device check``."""

    device: str = field(kw_only=False, metadata=option("A device, as --on takes it.", metavar="DEVICE", takes="words"))
    models: Sequence[str | Path] = field(
        default=(),
        kw_only=False,
        metadata=option("Model files whose self-test is replayed there.", metavar="[MODEL]...", takes="words"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRemoveOptions(Options):
    """What is asked of ``device remove``."""

    name: str = field(kw_only=False, metadata=_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeCheckOptions(Options):
    """What is asked of ``recipe check``."""

    recipe: str | Path = field(kw_only=False, metadata=_RECIPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeShowOptions(Options):
    """What is asked of ``recipe show``."""

    recipe: str | Path = field(kw_only=False, metadata=_RECIPE)
    out: str | Path | None = field(default=None, metadata=_FOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRunOptions(RecipeShowOptions):
    """What is asked of ``recipe run``."""

    fresh: bool = field(default=False, metadata=option("Do everything again, finished or not."))
    progress: Callable[[str], AbstractContextManager[Callable[..., None] | None]] | None = field(
        default=None,
        metadata=option("Gives for the name of a verb what its own progress is while it runs.", python=True),
        compare=False,
    )
