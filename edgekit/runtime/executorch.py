"""ExecuTorch programs (``.pte``), run by the package's Python bindings, which bring XNNPACK and portable kernels.

ExecuTorch has one pool of threads a process, which the parts for XNNPACK hold on to from the moment they are loaded: a
process runs programs with one number of threads at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar
from weakref import WeakSet

from edgekit import pte_reader
from edgekit.environments import EXECUTORCH, Environment
from edgekit.errors import DeviceError, ModelError, UnsupportedError, UsageError
from edgekit.reading import reading
from edgekit.results.loaded import Delegation, Operator
from edgekit.runtime.base import Runner
from edgekit.runtime.native_stderr import capture_stderr
from edgekit.runtime.ports import Port
from edgekit.types import Array, Format

_BINDINGS = "executorch.extension.pybindings._C"
"""What ``executorch.runtime`` stands on. That module imports the compiler as well, which takes seconds."""
_KERNELS = "ExecuTorch kernels"
_MISSING = re.compile(r"Missing operator: \[\d+\] (\S+)")
_BACKEND = re.compile(r"Backend (\S+) is not registered")
_LARGER = re.compile(r"maximum capacity of (\d+) elements to (\d+) elements")
_LOG = re.compile(rb"^\[\w+\.cpp:\d+\] ?")
_OPEN: WeakSet[ExecuTorchRunner] = WeakSet()
"""Programs that are loaded in this process."""


class ExecuTorchRunner(Runner):
    """A ``.pte`` file. Its method is ``forward``, or the only one it has."""

    name = "executorch"
    formats: ClassVar[tuple[Format, ...]] = (Format.PTE,)
    package = module = "executorch"
    environment: ClassVar[Environment | None] = EXECUTORCH

    def _import(self) -> None:
        try:
            self._torch: Any = import_module("torch")  # brings the libraries that the bindings need
            self._library: Any = import_module(_BINDINGS)
        except ImportError as error:
            raise self._missing(str(self.artifact.path), error) from error

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        path = self.artifact.path
        with reading(path, ModelError, "an ExecuTorch program"):
            data = path.read_bytes()
            self._calls = list(pte_reader.calls(data))
            signature, self._largest = pte_reader.signature(data), pte_reader.largest(data)
            self._name, self._writes = pte_reader.method(data), pte_reader.writes_buffers(data)
        self._set_threads()
        self._load()
        _OPEN.add(self)
        inputs, outputs = (
            [Port(spec, k) for k, spec in enumerate(side)] for side in (signature.inputs, signature.outputs)
        )
        return inputs, outputs

    def _load(self) -> None:
        """Loads the program anew: its buffers are as they were at first. A method loaded again would keep them."""
        said: list[bytes] = []
        try:
            with capture_stderr() as said:
                check = self._library.Verification.InternalConsistency
                self._program = self._library._load_program(str(self.artifact.path), program_verification=check)
                self._method = self._program.load_method(self._name)
        except RuntimeError as error:
            raise self._refused(_told(said) or str(error)) from error
        self._fresh = True

    def reset(self) -> None:
        if self._writes and not self._fresh:
            self._load()

    def _named(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[list[Port], list[Port]]:
        """As the card says; it alone knows which axes of a tensor whose shape may vary are free."""
        given, made = super()._named(inputs, outputs)
        card = self.artifact.card
        if card is None:
            return given, made
        shapes = [
            tuple(said if isinstance(own, str) else own for own, said in zip(port.spec.shape, spec.shape, strict=True))
            for port, spec in zip(given, card.signature.inputs, strict=True)
        ]
        return [
            replace(port, spec=replace(port.spec, shape=shape)) for port, shape in zip(given, shapes, strict=True)
        ], made

    def _set_threads(self) -> None:
        """Gives the process's pool the threads of this runner.

        Raises:
            UsageError: another program is open here, with another number.
        """
        if self._library._threadpool_get_thread_count() == self.threads:
            return
        others = [runner for runner in _OPEN if runner.threads != self.threads]
        if others:
            raise UsageError(
                f"ExecuTorch has one number of threads in a process, and {others[0].artifact.path.name} is open here "
                f"with {others[0].threads}, {self.artifact.path.name} is to have {self.threads}; close the other one "
                "first, or give isolated=True"
            )
        with capture_stderr():
            self._library._unsafe_reset_threadpool(self.threads)
        had = self._library._threadpool_get_thread_count()
        if had != self.threads:
            raise UsageError(f"ExecuTorch took {had} threads where {self.threads} were asked for; give fewer")

    def _ready(self) -> None:
        self._order = [int(port.key) for port in self._inputs]
        self._results = [int(port.key) for port in self._outputs]
        in_order = all(list(range(len(order))) == order for order in (self._order, self._results))
        self._plain = in_order and not self._writes
        self._tensor = self._torch.from_numpy

    def _call(self, arrays: list[Array]) -> list[Array]:
        if self._plain:
            given = [self._tensor(array if array.flags.writeable else array.copy()) for array in arrays]
            return [result.numpy() for result in self._method.call(given)]
        return self._arrays(self._run(self._tensors(arrays)))

    def _bare(self, arrays: list[Array]) -> Callable[[], object]:
        tensors = self._tensors(arrays)
        return lambda: [result.numpy() for result in self._run(tensors)]

    def _copy_in(self, arrays: list[Array]) -> None:
        self._given = self._tensors(arrays)

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        self._made = self._run(self._given)
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        return self._arrays(self._made)

    def _run(self, tensors: list[Any]) -> Any:
        if self._writes:
            if not self.stateful:
                self.reset()
            self._fresh = False
        return self._method.call(tensors)

    def _tensors(self, arrays: list[Array]) -> list[Any]:
        given: list[Any] = [None] * len(arrays)
        for place, array in zip(self._order, arrays, strict=True):
            given[place] = self._tensor(array if array.flags.writeable else array.copy())
        return given

    def _arrays(self, results: Any) -> list[Array]:
        return [results[place].numpy() for place in self._results]

    def delegation(self) -> Delegation:
        """Operators that backends run, of all: those inside XNNPACK's parts are counted one by one."""
        left = tuple(Operator(name=call.name, type=call.name, by=_KERNELS) for call in self._calls if not call.by)
        backends = dict.fromkeys(call.by for call in self._calls if call.by)
        by = ", ".join("XNNPACK" if name == pte_reader.XNNPACK else name for name in backends)
        return Delegation(len(self._calls), len(self._calls) - len(left), by, left)

    def save_compiled(self, target: str) -> None:
        raise UnsupportedError("ExecuTorch runs the program as it is; what XNNPACK packs is not kept")

    def close(self) -> None:
        self._method = self._program = None
        _OPEN.discard(self)

    def _refused(self, said: str) -> ModelError:
        path, version = self.artifact.path, self.version
        operator, backend = _MISSING.search(said), _BACKEND.search(said)
        if operator:
            said = f"executorch {version} has no kernel for {operator[1]}; export the network again without it"
        elif backend:
            said = f"the backend {backend[1]} is not part of the package executorch {version}; export again for XNNPACK"
        return ModelError(f"{path}: executorch {version} does not accept it: {said}")

    def _failed(self, error: Exception) -> DeviceError:
        failed = super()._failed(error)
        if "set_inputs" not in str(error) or not any(self.signature.dynamic_dims):
            return failed
        sizes = ", ".join(f"{port.spec.name} {list(self._largest[int(port.key)])}" for port in self._inputs)
        return DeviceError(
            f"{failed}; memory was planned for sizes up to {sizes}: give smaller inputs, or export again"
        )


def _told(lines: Sequence[bytes]) -> str:
    """What ExecuTorch logged when it refused something, in one line."""
    found = [_LOG.sub(b"", line).decode("utf-8", "replace").strip() for line in lines if _LOG.match(line)]
    return "; ".join(dict.fromkeys(line for line in found if line and "cpuinfo" not in line))
