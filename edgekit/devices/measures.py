"""What a worker measures beside the timed blocks: one command each, ``(runner, message) -> (value, arrays)``.

They run where the model is, with the one clock. The parent calls them by name (:meth:`WorkerClient.measure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.devices.protocol import Message
from edgekit.runtime import Runner

Measure = Callable[[Runner, Message], Message]


def profile(runner: Runner, message: Message) -> Message:
    """``seconds``; the feed as arrays. See :func:`edgekit.bench.profile.profile`."""
    from edgekit.bench.profile import profile

    return Message(profile(runner, message.arrays, float(message.header["seconds"])))


MEASURES: Mapping[str, Measure] = {
    "profile": profile,
}
