"""One training in several processes, on Lightning Fabric: what each is told, and how the weights come back.

Both go as bytes of our own making. Fabric sends arguments by pickle, which a process that has not imported the user's
file cannot open; and it hands a result back through a pipe that is read when the processes have ended, so that one of
more than the 64 KiB a pipe holds would wait for ever.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException

from edgekit.children import end_with_parent
from edgekit.errors import DeviceError, GateError, UsageError
from edgekit.leftovers import scratch_folder
from edgekit.models.fabric import Fabric
from edgekit.usercode import import_files, imported_files

Outcome = tuple[dict[str, Any], dict[str, Tensor]]
"""Plain values, and weights by name."""
Work = Callable[[Fabric, Any], Outcome]
"""What each process does with the job it is told."""


class _Parcel:
    """A job on its way. No dataclass: Fabric would walk into it, and refuses frozen ones."""

    def __init__(self, job: object, weights: Path) -> None:
        self.files = imported_files()
        self.job = pickle.dumps(job)
        self.weights = str(weights)
        """Where the first process leaves them."""


def spread(fabric: Fabric, work: Work, job: object) -> Outcome:
    """What the first of the processes of ``fabric`` makes of ``job``; an error in one of them ends all.

    Raises:
        GateError: ``work`` raised it.
        DeviceError: a process failed, or died.
        UsageError: the job cannot be sent to another process.
    """
    with scratch_folder() as folder:
        weights = folder / "best.safetensors"
        try:
            parcel = _Parcel(job, weights)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                f"this network cannot be sent to other processes ({error}); train it with one process, or define its "
                "classes at the top of their file"
            ) from error
        try:
            values: dict[str, Any] = fabric.launch(_one_of_them, work, parcel)
        except ProcessException as error:
            last = str(error).strip().splitlines()[-1]
            if "GateError: " in last:
                raise GateError(last.split("GateError: ", 1)[1]) from error
            raise DeviceError(f"a training process failed: {last}; train with one process to see more") from error
        return values, load_file(weights)


def _one_of_them(fabric: Fabric, work: Work, parcel: _Parcel) -> dict[str, Any]:
    end_with_parent()
    import_files(parcel.files)
    values, weights = work(fabric, pickle.loads(parcel.job))
    if fabric.global_rank == 0:
        save_file({name: value.contiguous() for name, value in weights.items()}, parcel.weights)
    return values
