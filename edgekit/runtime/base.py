"""The Runner: one way to run a model file, whatever runs it.

The base class checks feeds, (de)quantizes integer inputs and outputs and names the results. A backend opens the file
(:meth:`Runner._open`) and calls it (:meth:`Runner._call`).
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.environments import Environment
from edgekit.errors import DeviceError, EdgekitError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.results.loaded import Arena, Delegation
from edgekit.runtime.feeds import FeedPlan
from edgekit.runtime.ports import Port, meet_card
from edgekit.runtime.quantization import dequantize, quantize
from edgekit.types import Array, Artifact, Closing, Feed, Format, Signature

if TYPE_CHECKING:
    from edgekit.runtime.stream import Stream

Stages = tuple[Callable[[], None], Callable[[], None], Callable[[], dict[str, Array]]]
"""Copy in, run, copy out."""
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate memory", "out of memory", "can't allocate memory")


class Runner(Closing, ABC):
    """A loaded model; a context manager.

    Attributes:
        artifact: the file.
        name: of the runtime, with what was asked for behind it: ``onnxruntime:openvino``.
        variant: what follows the colon, empty for the runtime as it is.
        device: ``cpu``, or ``cuda:N`` where the runtime was told to run on a GPU.
        signature: inputs and outputs as :meth:`run` takes and gives them: float32 where the file has quantized
            integers (``raw=False``), the file's own dtypes otherwise.
        load_ns: nanoseconds the backend took to open the file and to get ready, imports not counted.
        threads: threads the backend was given.
        raw: integers of a quantized file are taken and given as they are.
        stateful: variable state is kept from one run to the next; without it every run starts from the reset state.

    Raises (on making one):
        RuntimeMissingError: the backend's package is not installed.
        ModelError: the backend does not accept the file.
    """

    name: str
    formats: ClassVar[tuple[Format, ...]]
    package: ClassVar[str]
    """Distribution that brings the backend; its version is :attr:`version`."""
    also: ClassVar[tuple[str, ...]] = ()
    """Other distributions that bring the same module."""
    module: ClassVar[str] = ""
    """The module that is imported for it, as ``self._library``; empty where the class has an ``_import`` of its own."""
    extra: ClassVar[str] = ""
    """edgekit's extra that installs it, where one does."""
    install: ClassVar[str] = ""
    """How to get it, where that is not by :attr:`extra`."""
    environment: ClassVar[Environment | None] = None
    """The environment beside edgekit's that has it, where its pins are not edgekit's."""
    timed: ClassVar[bool] = True
    """False: how long it takes here says nothing of where its files run, so that nothing is chosen by it."""
    variants: ClassVar[tuple[str, ...]] = ()
    """What may follow the name after a colon: a provider, an accelerator, a way to run."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Those of them that ``--scheme auto`` tries besides the runtime itself, unasked."""
    compiled_apart: ClassVar[bool] = False
    """Whether what it compiled is opened beside the model file, not in its place; see :meth:`save_compiled`."""
    on_cuda: ClassVar[tuple[str, ...]] = ()
    """Those of them that run on an NVIDIA GPU, the one to take where none is named first; empty: none does."""

    @classmethod
    def how_to_get(cls) -> str:
        """The command that brings the backend."""
        if cls.install or cls.environment is None:
            return cls.install or f"pip install 'edgekit[{cls.extra}]'"
        return f"an environment of its own: {cls.environment.install}"

    @classmethod
    def installed(cls) -> str | None:
        """Version of the backend here, ``unknown`` where it has none; None without it. Nothing is imported."""
        if cls.module and find_spec(cls.module.partition(".")[0]) is None:
            return None
        for distribution in (cls.package, *cls.also):
            with suppress(PackageNotFoundError):
                return version(distribution)
        return "unknown" if cls.module else None

    @classmethod
    def check_request(cls, variant: str, device: str, threads: int) -> None:
        """Refuses what no file can be run with. Needs nothing of the backend: the host of a device asks as well.

        Raises:
            UsageError: with what can be asked for.
        """
        if threads < 1:
            raise UsageError(f"threads is {threads}; give 1 or more")

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        raw: bool = False,
        stateful: bool = False,
        variant: str = "",
        device: str = "cpu",
        compiled: str = "",
    ) -> None:
        self.check_request(variant, device, threads)
        if compiled and not self.compiled_apart:
            raise UsageError(f"{self.name} opens what it has compiled in the place of the file; give that alone")
        if variant:
            self.name = f"{self.name}:{variant}"
        self.variant = variant
        self.device = device
        self.artifact = artifact
        self.threads = threads
        self.raw = raw
        self.stateful = stateful
        self.compiled_before = compiled
        self._import()
        started = time.monotonic_ns()
        try:
            found = self._open()
        except (AttributeError, ImportError) as error:
            if not self._lacking(error):
                raise
            raise self._missing(str(self.artifact.path), error) from error
        self.load_ns = time.monotonic_ns() - started
        inputs, outputs = self._named(*found)
        self.signature = Signature(tuple(p.seen(raw) for p in inputs), tuple(p.seen(raw) for p in outputs))
        self._inputs, self._outputs = inputs, outputs
        self._names = [port.spec.name for port in outputs]
        self._integer_in = [] if raw else [(k, p.quantization) for k, p in enumerate(inputs) if p.quantization]
        self._integer_out = [] if raw else [(k, p.quantization) for k, p in enumerate(outputs) if p.quantization]
        contract = artifact.card.contract if artifact.card is not None else {}
        lengths = {name: rule.params["most"] for name, rule in contract.items() if "most" in rule.params}
        self._accept = FeedPlan(self.signature.inputs, artifact.path.name, self._bind, lengths).accept
        self._ready()

    def run(self, feed: Feed) -> dict[str, Array]:
        """One inference: arrays by input name -> new arrays by output name.

        Raises:
            FeedError: the feed does not fit the signature (see :mod:`edgekit.runtime.feeds`).
            DeviceError: the backend failed while running.
        """
        arrays = self._accept(feed)
        for k, how in self._integer_in:
            arrays[k] = quantize(arrays[k], how)
        try:
            results = self._call(arrays)
        except EdgekitError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        for k, how in self._integer_out:
            results[k] = dequantize(results[k], how)
        return dict(zip(self._names, results, strict=True))

    def bare(self, feed: Feed) -> Callable[[], object]:
        """The barest repeatable call of this backend on ``feed``, for the clock: copy in, run, copy out; on an
        accelerator (:attr:`resident`) the run alone, until it is done there.

        The feed is checked, its dimensions are bound and its values are quantized here, once.
        """
        return self._bare([array for _, array in self.bound(feed)])

    def bound(self, feed: Feed) -> list[tuple[Port, Array]]:
        """What the backend is given for ``feed``: each input as the file has it, and its checked, quantized values."""
        arrays = self._accept(feed)
        for k, how in self._integer_in:
            arrays[k] = quantize(arrays[k], how)
        return list(zip(self._inputs, arrays, strict=True))

    def stream(self) -> Stream:
        """A sequence run step by step, for a file that was exported with ``--streaming``.

        Raises:
            ModelError: the file is not one of a single step.
        """
        from edgekit.runtime.stream import Stream

        return Stream(self)

    def staged(self, feed: Feed) -> Stages:
        """One inference in three parts, to be called once each in this order; ``copy_out`` gives what :meth:`run` does.

        A backend that cannot be taken apart does all of it in ``run``, but for (de)quantization.
        """
        made: list[Array] = []
        arrays = self._accept(feed)

        def copy_in() -> None:
            for k, how in self._integer_in:
                arrays[k] = quantize(arrays[k], how)
            self._copy_in(arrays)

        def run() -> None:
            made[:] = self._run_staged(arrays)

        def copy_out() -> dict[str, Array]:
            results = self._copy_out(made)
            for k, how in self._integer_out:
                results[k] = dequantize(results[k], how)
            return dict(zip(self._names, results, strict=True))

        return copy_in, run, copy_out

    def save_compiled(self, target: str) -> None:
        """Writes the model as the backend has prepared it, so that the next start need not do it again: as a file to be
        opened in the place of this one, or where :attr:`compiled_apart`, beside it.

        Raises:
            UnsupportedError: the backend has no such form; the message says why.
        """
        raise UnsupportedError(f"{self.name} keeps nothing that it has compiled")

    def arena_bytes(self) -> int | None:
        """Bytes the backend has set aside for activations, None where it does not tell."""
        return None

    def arena(self) -> Arena | None:
        """What that memory consists of, None where the backend does not tell."""
        return None

    @property
    def resident(self) -> bool:
        """Whether inputs and outputs stay in the memory of an accelerator: then :meth:`bare` holds no copies."""
        return False

    @property
    def chip(self) -> str | None:
        """Name of the accelerator, None for a CPU."""
        return None

    def device_ns(self, runs: int) -> list[int]:
        """Nanoseconds of each of so many runs on what was copied in last, by the accelerator's own clock; empty if
        there is no such clock."""
        return []

    def transfer_bytes(self) -> tuple[int, int] | None:
        """Bytes that are copied to the accelerator and back for one run; None without one."""
        return None

    def reset(self) -> None:
        """Puts variable state back to its start. Nothing to do for a model without any."""

    def delegation(self) -> Delegation | None:
        """What ran where, as far as the backend tells; None where it does not."""
        return None

    def close(self) -> None:
        """Lets go of the model. The runner cannot be used afterwards."""

    @property
    def version(self) -> str:
        """Version of the backend's package, ``unknown`` where it has none."""
        return self.installed() or "unknown"

    def _import(self) -> None:
        """Imports the backend's :attr:`module` as ``self._library``; raises :meth:`_missing` when it is not there."""
        try:
            self._library: Any = import_module(self.module)
        except ImportError as error:
            raise self._missing(str(self.artifact.path), error) from error

    @abstractmethod
    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        """Opens ``self.artifact`` and says what its inputs and outputs are.

        Raises:
            ModelError: the backend does not accept the file.
        """

    @abstractmethod
    def _call(self, arrays: list[Array]) -> list[Array]:
        """One inference; arrays in the order of ``self._inputs``, results in the order of ``self._outputs``."""

    def _ready(self) -> None:
        """Called once when ``self._inputs`` and ``self._outputs`` are known, to lay out what :meth:`_call` needs."""

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        """Called with the shapes of all inputs before their first use and whenever they change."""

    def _named(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[list[Port], list[Port]]:
        """The inputs and outputs under the names of the card inside the file."""
        return meet_card(self.artifact, inputs, outputs)

    def _bare(self, arrays: list[Array]) -> Callable[[], object]:
        return lambda: self._call(arrays)

    def _copy_in(self, arrays: list[Array]) -> None:
        """The part of :meth:`_call` that takes the arrays."""

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        """The part of :meth:`_call` between :meth:`_copy_in` and :meth:`_copy_out`."""
        return self._call(arrays)

    def _copy_out(self, made: list[Array]) -> list[Array]:
        """The part of :meth:`_call` that hands the results over."""
        return list(made)

    def _failed(self, error: Exception) -> DeviceError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return DeviceError(f"{self.artifact.path.name}: {self.name} {self.version} failed while running: {reason}")

    @classmethod
    def _lacking(cls, error: BaseException) -> str:
        """What of the backend is not there, as another version of it lacks it; empty where ``error`` is not of that."""
        owner, name = "", getattr(error, "name", None) or ""
        if isinstance(error, AttributeError):
            owner = str(getattr(error.obj, "__module__", None) or getattr(error.obj, "__name__", ""))
        found = f"{owner}.{name}" if owner else name
        return found if found.startswith(f"{cls.module.partition('.')[0]}.") else ""

    @classmethod
    def _missing(cls, path: str, error: ImportError | AttributeError) -> RuntimeMissingError:
        only = f"pip install 'edgekit[{cls.extra}]' (or only: pip install {cls.package})"
        install = f"run: {only}" if cls.extra else f"give it {cls.how_to_get()}"
        lacking, here = cls._lacking(error), cls.installed()
        if lacking and here is not None:
            return RuntimeMissingError(
                f"{path} needs another version of the package {cls.package}: {here}, which is installed in "
                f"{sys.executable}, has no {lacking}; {install}"
            )
        if isinstance(error, ModuleNotFoundError):
            return RuntimeMissingError(
                f"{path} needs the package {cls.package}, which is not installed in {sys.executable}; {install}"
            )
        reason = " ".join(str(error).split())[:300]
        return RuntimeMissingError(
            f"{path} needs the package {cls.package}, of which {here} is installed in {sys.executable} and "
            "cannot be loaded: "
            f"{reason}; install it again there for this machine and this numpy; {install}"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or what caused it, is the lack of memory in the words of Python, C++ or a runtime."""
    while error is not None:
        if isinstance(error, MemoryError) or speaks_of_memory(str(error)):
            return True
        error = error.__cause__
    return False


def speaks_of_memory(text: str) -> bool:
    """Whether ``text`` says that memory ran out, in the words of C++ or of a runtime."""
    lower = text.lower()
    return any(words in lower for words in _OUT_OF_MEMORY)
