"""Devices as actors of Ray: each does one job at a time, and several devices look at a file at once.

An actor runs on the machine of the command, whose devices they are, and holds the device while it looks (see
:mod:`edgekit.pipeline.search.device_lock`): another search on this machine, with Ray or without, waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.devices import parse_device
from edgekit.errors import DeviceError, EdgekitError
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.evidence import Look, Reference, Typical, joined, look_on
from edgekit.pipeline.search.steps import MadeFile

if TYPE_CHECKING:
    from edgekit.pipeline.search.evidence import Judge


_OWN = ("EDGEKIT_", "XDG_", "PATH")
"""What the variables of this process begin with that decide where a file runs."""


class DeviceActor:
    """What looks at files on one device, in a process of its own. ``here``: where the command was started."""

    def __init__(self, name: str, options: OptimizeOptions, folder: Path, here: str) -> None:
        os.chdir(here)
        self._device, self._options, self._folder = parse_device(name), options, folder
        self._judge: Judge | None = None

    def look(self, file: MadeFile, label: str, reference: Reference, typical: Typical) -> Look:
        """See :func:`edgekit.pipeline.search.evidence.look_on`."""
        from edgekit.pipeline.search.subject import Subject

        if self._judge is None:
            self._judge = Subject(self._options, self._folder).judge
        return look_on(self._judge, self._device, file, label, reference, typical)


class DeviceActors:
    """An actor for each device of a study in ``folder``; they end with the connection to Ray."""

    def __init__(self, options: OptimizeOptions, folder: Path) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        mine = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        own = {
            name: value for name, value in os.environ.items() if name.startswith(("EDGEKIT_", "XDG_")) or name == "PATH"
        }
        kind = ray.remote(DeviceActor).options(num_cpus=0, scheduling_strategy=mine, runtime_env={"env_vars": own})
        self._actors: dict[str, Any] = {
            name: kind.remote(name, options, folder.absolute(), os.getcwd()) for name in options.on
        }

    def look(self, file: MadeFile, label: str, references: Mapping[str, Reference], typical: Typical) -> Look:
        """A look on every device.

        Raises:
            EdgekitError: what an actor raised.
            DeviceError: an actor has died.
        """
        import ray

        asked = [
            actor.look.remote(file, label, references[parse_device(name).name], typical)
            for name, actor in self._actors.items()
        ]
        try:
            return joined(ray.get(asked))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EdgekitError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise DeviceError(f"the process that looks at files on a device has ended: {error}") from error
