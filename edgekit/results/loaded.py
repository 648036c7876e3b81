"""What a runner says of a loaded file, which is all that a worker needs of the results: delegation and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgekit.results.base import derived, optional


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator that the delegate did not take: its type, and who runs it in its place. A tool gives no name."""

    name: str | None = optional()
    type: str
    by: str


@dataclass(frozen=True)
class Delegation:
    """How much of the graph ``by`` took over: ``delegated`` of ``nodes`` operators of the loaded graph, not ``left``.

    Operators in the bodies of loops and branches are not counted: they belong to the ``WHILE`` or ``If`` around them.
    ``precisions``: how many of them are computed in what (``f32``, ``bf16``, ``i8``), where the runtime tells.
    """

    nodes: int
    delegated: int
    by: str | None
    left: tuple[Operator, ...] = ()
    precisions: Mapping[str, int] | None = optional()


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Memory that TensorFlow Lite for Microcontrollers computes in, on a 64-bit machine; a 32-bit target needs no more.

    Attributes:
        bytes: in which the file was loaded and run. Laying out takes some for a moment beside the two parts.
        persistent_bytes: of them, what is held all the time: structures, states, what kernels prepare.
        non_persistent_bytes: of them, tensors and scratch, which take each other's place.
        operators: the methods of MicroMutableOpResolver that register what the file needs.
    """

    bytes: int
    persistent_bytes: int
    non_persistent_bytes: int
    operators: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = f"{self.persistent_bytes:,} persistent, {self.non_persistent_bytes:,} for tensors in turn"
        return f"an arena of {self.bytes:,} bytes ({parts})"


@dataclass(frozen=True)
class Budget:
    """Memory of a microcontroller, in bytes; null where it is not limited.

    Attributes:
        arena_bytes: RAM for the arena.
        flash_bytes: for the file.
        exceeded: what is too large, in words; empty: the file fits.
    """

    arena_bytes: int | None = None
    flash_bytes: int | None = None
    exceeded: str = ""
    fits: bool = derived(lambda budget: not budget.exceeded)

    def spent(self, arena: Arena, file_bytes: int) -> Budget:
        """With what a file of ``file_bytes`` exceeds of it."""
        told = []
        if self.arena_bytes is not None and arena.bytes > self.arena_bytes:
            told.append(f"it needs {arena}, there are {self.arena_bytes:,}")
        if self.flash_bytes is not None and file_bytes > self.flash_bytes:
            told.append(f"the file has {file_bytes:,} bytes, there are {self.flash_bytes:,} for it")
        return replace(self, exceeded="; ".join(told))
