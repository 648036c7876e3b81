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
    """The options of ``models``: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions(Options):
    """The options of ``doctor``."""

    on: str = field(default="cpu", metadata=ON)
    quick: bool = field(default=False, metadata=option("List what is installed without trying it."))


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesOptions(Options):
    """The options of ``device list``."""

    state: bool = field(
        default=True,
        metadata=option(
            "Ask every saved device for its state: ready, leased (by whom, until when) or not available (default: "
            "yes).",
            off="--no-state",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAddOptions(Options):
    """The options of ``device add``."""

    name: str = field(kw_only=False, metadata=_NAME)
    address: str = field(
        kw_only=False,
        metadata=option("Where it is: ssh://user@host, emulator:cortex-a72.", metavar="ADDRESS", takes="words"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCheckOptions(Options):
    """The options of ``device check``."""

    device: str = field(kw_only=False, metadata=option("A device, as --on takes it.", metavar="DEVICE", takes="words"))
    models: Sequence[str | Path] = field(
        default=(),
        kw_only=False,
        metadata=option("Model files whose self-test is replayed there.", metavar="[MODEL]...", takes="words"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRemoveOptions(Options):
    """The options of ``device remove``."""

    name: str = field(kw_only=False, metadata=_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeCheckOptions(Options):
    """The options of ``recipe check``."""

    recipe: str | Path = field(kw_only=False, metadata=_RECIPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeShowOptions(Options):
    """The options of ``recipe show``."""

    recipe: str | Path = field(kw_only=False, metadata=_RECIPE)
    out: str | Path | None = field(default=None, metadata=_FOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRunOptions(RecipeShowOptions):
    """The options of ``recipe run``."""

    fresh: bool = field(default=False, metadata=option("Do everything again, finished or not."))
    progress: Callable[[str], AbstractContextManager[Callable[..., None] | None]] | None = field(
        default=None,
        metadata=option("Returns, for the name of a verb, the progress to report to while it runs.", python=True),
        compare=False,
    )
