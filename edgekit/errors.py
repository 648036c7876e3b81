"""The exception tree. The command line turns it into an exit code in one place (``exit_code``).

    EdgekitError
    ├── UsageError              2  an option or argument makes no sense, the output place cannot be written
    ├── InputError              3  what was given cannot be read or is not valid
    │   ├── SourceError            a network: factory, checkpoint, zoo name
    │   │   └── FactoryNeededError a checkpoint of the user's own network, named without its code
    │   ├── ModelError             a model file
    │   ├── DataError              a data set or a sample
    │   ├── FeedError              arrays given to a runner
    │   ├── RecipeError            a recipe file
    │   ├── UnsupportedError       a format, runtime or scheme has no such thing
    │   │   └── ConversionError    a tool tried to convert a network and failed
    │   ├── LimitError             larger than a limit of edgekit/limits.py
    │   └── StorageError           the disk is full
    ├── GateError               1  a gate said no
    │   ├── ParityError            a conversion whose outputs differ
    │   └── QualityError           quality dropped, or the file grew, beyond what was allowed
    ├── DeviceError             4  a runtime or device failed
    │   ├── RuntimeMissingError    the package that runs this file is not installed there
    │   ├── WorkerCrashError       the worker died (signal or exit status in the message)
    │   ├── WorkerTimeoutError     no answer in time; the worker was killed
    │   ├── WorkerMemoryError      the worker ran out of memory
    │   ├── UnreachableError       the device cannot be reached, or the connection to it was lost
    │   ├── TransferError          a file did not arrive on the device: content differs, or its disk is full
    │   └── ProtocolError          what came back was not a frame
    └── InconclusiveError       5  the noise does not allow a verdict

A message says what was got, what was wanted, and what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class EdgekitError(Exception):
    """Base of every error edgekit raises on purpose."""

    exit_code: ClassVar[int] = 4


class UsageError(EdgekitError):
    """An option or argument makes no sense, or the output place cannot be written."""

    exit_code = 2


class InputError(EdgekitError):
    """A model, data set, recipe or source cannot be read or is not valid."""

    exit_code = 3


class SourceError(InputError):
    """A network cannot be had from what the user named."""


class FactoryNeededError(SourceError):
    """A checkpoint of the user's own network was named without the code that builds it.

    Attributes:
        option, factory: what to add to the command line, once the user trusts that code: ``--factory net.py:make``.
    """

    def __init__(self, message: str, option: str, factory: str) -> None:
        super().__init__(message)
        self.option, self.factory = option, factory


class ModelError(InputError):
    """A model file cannot be read or is not valid."""


class DataError(InputError):
    """A data set or a sample cannot be read or is not valid."""


class FeedError(InputError):
    """Arrays given to a runner do not fit its signature."""


class RecipeError(InputError):
    """A recipe file cannot be read or is not valid."""


class UnsupportedError(InputError):
    """A format, runtime or scheme has no such thing; nothing else was done in its place."""


class ConversionError(UnsupportedError):
    """A tool tried to convert a network and failed.

    Attributes:
        tool: ``torch.export``, which captures for every format, or the format that was to be written.
        headline: what failed and the first line the tool said; ``advice`` follows it in the message.
        detail: type and whole text of the tool's own error.
        written: the tool did write a file, which no runtime takes.
    """

    def __init__(self, tool: str, headline: str, advice: str, detail: str, *, written: bool = False) -> None:
        super().__init__(f"{headline}. {advice}")
        self.tool, self.headline, self.advice, self.detail, self.written = tool, headline, advice, detail, written


class LimitError(InputError):
    """An input is larger than a limit allows; the message names the limit and the variable that raises it."""


class StorageError(InputError):
    """The disk is full; nothing was published."""


class GateError(EdgekitError):
    """A gate said no: accuracy drop, parity, regression."""

    exit_code = 1


class ParityError(GateError):
    """A conversion whose outputs differ from the module it came from; nothing was published."""


class QualityError(GateError):
    """Quality dropped, or the file grew, beyond what was allowed."""


class DeviceError(EdgekitError):
    """A runtime or device failed."""

    exit_code = 4


class RuntimeMissingError(DeviceError):
    """The package that runs this file is not installed where it should run."""


class WorkerCrashError(DeviceError):
    """The worker process died; the message carries the signal or the exit status."""


class WorkerTimeoutError(DeviceError):
    """The worker gave no answer in time and was killed."""


class WorkerMemoryError(DeviceError):
    """The worker ran out of memory."""


class UnreachableError(DeviceError):
    """The device cannot be reached, or the connection to it was lost."""


class TransferError(DeviceError):
    """A file did not arrive on the device as it was sent, or its disk is full; nothing of it is left there."""


class ProtocolError(DeviceError):
    """What came back from the worker was not a frame of the protocol."""


class InconclusiveError(EdgekitError):
    """The noise does not allow a verdict."""

    exit_code = 5


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that ``error`` is, or in whose wake it was raised: clearing up after one may fail in its turn.

    ``shutil.rmtree`` closes a descriptor twice (EBADF) when it is interrupted between closing it and noting so.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__context__
    return found
