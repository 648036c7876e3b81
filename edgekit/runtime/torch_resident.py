"""``.pt2`` programs in a named way (``torch:eager``, ``torch:compile``, ``torch:cudagraph``), on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.runtime import torch_ways as ways
from edgekit.runtime.cuda_driver import gpu_name
from edgekit.runtime.ports import Port
from edgekit.runtime.torch import TorchRunner, limited_threads
from edgekit.types import Array


class TorchResidentRunner(TorchRunner):
    """A program whose inputs and outputs stay on the device. On a GPU the bare call is one run there, to its end,
    without copies between host and device; :meth:`staged` has those as steps of their own."""

    @classmethod
    def check_request(cls, variant: str, device: str, threads: int) -> None:
        super().check_request(variant, device, threads)
        ways.check_way(*ways.split(variant), device)

    def _import(self) -> None:
        super()._import()
        self.way, self.precision = ways.split(self.variant)
        ways.require_device(self.device, str(self.artifact.path))

    @property
    def resident(self) -> bool:
        return self.device != "cpu"

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        self._resident: ways.Resident | None = None
        self._bound: list[tuple[int, ...]] = []
        inputs, outputs = super()._open()
        if all(isinstance(size, int) for port in inputs for size in port.spec.shape):
            self._inputs = list(inputs)  # compiling and capturing are part of loading where the file fixes every size
            self._order = [int(port.key) for port in inputs]
            self._bind([port.spec.resolved() for port in inputs])
        return inputs, outputs

    def _runnable(self, program: Any) -> Any:
        from torch.export.passes import move_to_device_pass

        if self.resident:
            ways.set_tf32(self.precision == "tf32")
            program = move_to_device_pass(program, self.device)
        return ways.lowered(program.module(check_guards=False), self.precision)

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        """Lays out buffers for these shapes; compiles or captures for them."""
        if shapes == self._bound:
            return
        self._bound, self._resident = [], None
        examples = [ways.zeros(port.spec.dtype, shape) for port, shape in zip(self._inputs, shapes, strict=True)]
        kind = ways.Replayed if self.way == "cudagraph" else ways.Resident
        module = ways.compiled(self._module) if self.way == "compile" else self._module
        with self._mode():
            try:
                made = kind(self._caller(module), examples, self.device)
                made.run()
            except EdgekitError:
                raise
            except Exception as error:
                raise ways.explained(error, self.way, str(self.artifact.path)) from error
        self._resident, self._bound = made, shapes

    def _caller(self, module: Any) -> Callable[[Sequence[Any]], Any]:
        """``module`` on one tensor an input, in the order of ``self._inputs``."""
        order, positional, names = self._order, self._positional, self._keywords

        def call(tensors: Sequence[Any]) -> Any:
            given: list[Any] = [None] * len(tensors)
            for place, tensor in zip(order, tensors, strict=True):
                given[place] = tensor
            return module(*given[:positional], **dict(zip(names, given[positional:], strict=True)))

        return call

    def _mode(self) -> Any:
        return ways.inference(limited_threads(self.threads))

    def _call(self, arrays: list[Array]) -> list[Array]:
        self._copy_in(arrays)
        return self._copy_out(self._run_staged(arrays))

    def _copy_in(self, arrays: list[Array]) -> None:
        with self._mode():
            self._laid_out().copy_in(arrays)

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        with self._mode():
            self._laid_out().run()
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        results = self._laid_out().copy_out()
        return [results[place] for place in self._results]

    def _bare(self, arrays: list[Array]) -> Callable[[], object]:
        if not self.resident:
            return super()._bare(arrays)
        self._copy_in(arrays)
        if self.way == "cudagraph":
            return self._laid_out().run  # a replay runs no Python of torch: it needs no mode around it
        return ways.within(self._mode, self._laid_out().run)

    def device_ns(self, runs: int) -> list[int]:
        if not self.resident:
            return []
        with self._mode():
            return ways.device_ns(self._laid_out(), runs)

    def transfer_bytes(self) -> tuple[int, int] | None:
        return self._laid_out().bytes if self.resident else None

    @property
    def chip(self) -> str | None:
        return gpu_name(int(self.device.partition(":")[2] or 0)) if self.resident else None

    def arena_bytes(self) -> int | None:
        return ways.memory_bytes(self.device)

    def save_compiled(self, target: str) -> None:
        raise UnsupportedError(f"{self.name} keeps what it compiles in torch's own cache, not in a file")

    def close(self) -> None:
        self._resident = None
        super().close()

    def _laid_out(self) -> ways.Resident:
        assert self._resident is not None  # every way in binds the shapes first
        return self._resident
