"""What a worker measures for the bench itself beside the timed blocks; see :mod:`edgekit.devices.functions`."""

from __future__ import annotations

from dataclasses import asdict

from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import maybe, record, rows, text
from edgekit.devices.schema import BYTES, OF_A_FEED, Reply
from edgekit.errors import UnsupportedError
from edgekit.runtime import Runner

WARM_CALLS = 3
_TRANSFER = ("copy in", "run", "copy out", "device")


@on_device(Reply(record(bytes_in=BYTES, bytes_out=BYTES), times=_TRANSFER, raises=OF_A_FEED))
def transfer(runner: Runner, message: Message) -> Value:
    """``seconds``; the feed as arrays. Copies and the run apart. See :func:`edgekit.bench.stages.time_transfer`."""
    from edgekit.bench.stages import time_transfer

    sent = runner.transfer_bytes() or (0, 0)
    found = time_transfer(runner, message.arrays, float(message.header["seconds"]))
    return Message({"bytes_in": sent[0], "bytes_out": sent[1]}, found)


@on_device(
    Reply(
        record({"peak_bytes": BYTES, "resident_bytes": BYTES, "data_bytes": BYTES}, arena_bytes=maybe(BYTES)),
        raises=OF_A_FEED,
    )
)
def footprint(runner: Runner, message: Message) -> Value:
    """Memory of the process after a run on the feed, and the runtime's arena."""
    from edgekit.bench.memory import process_memory

    runner.run(message.arrays)
    return {**process_memory(), "arena_bytes": runner.arena_bytes()}


@on_device(Reply(record(bytes=BYTES, persistent_bytes=BYTES, non_persistent_bytes=BYTES, operators=rows(text(200)))))
def arena(runner: Runner, message: Message) -> Value:
    """The arena that the model needs, where the runtime tells (:class:`~edgekit.results.bench.Arena`)."""
    found = runner.arena()
    if found is None:
        raise UnsupportedError(f"{runner.name} does not tell what its arena consists of; tflm does")
    return asdict(found)
