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


def serve(runner: Runner, message: Message) -> Message:
    """``arrivals`` (``poisson`` or ``fixed``), ``rate``, ``duration_ns``, ``seed``, ``give_up_ns``; the feed as
    arrays. See :func:`edgekit.bench.scenario.serve.serve`."""
    from edgekit.bench.scenario import arrivals
    from edgekit.bench.scenario.serve import serve

    asked = message.header
    rate, duration_ns = float(asked["rate"]), int(asked["duration_ns"])
    if asked["arrivals"] == "poisson":
        times = arrivals.poisson_arrivals(rate, duration_ns, int(asked["seed"]))
    else:
        times = arrivals.fixed_arrivals(rate, duration_ns)
    call = runner.bare(message.arrays)
    for _ in range(_WARM_CALLS):
        call()
    found = serve(call, times, give_up_ns=int(asked["give_up_ns"]))
    served = times[: found.latency_ns.size]
    value = {
        "queries": int(times.size),
        "given_up": found.given_up,
        "longest_line": arrivals.longest_line(served, found.latency_ns),
        "wall_ns": int((served + found.latency_ns).max(initial=1)),
    }
    return Message(value, {"latency_ns": found.latency_ns, "service_ns": found.service_ns})


_WARM_CALLS = 3

MEASURES: Mapping[str, Measure] = {
    "profile": profile,
    "serve": serve,
}
