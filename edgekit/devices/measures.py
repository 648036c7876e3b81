"""What a worker measures beside the timed blocks: one command each, ``(runner, message) -> (value, arrays)``.

They run where the model is, with the one clock. The parent calls them by name (:meth:`WorkerClient.measure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgekit.devices.protocol import Message
from edgekit.runtime import Runner

Value = Message | Mapping[str, Any] | None
Measure = Callable[[Runner, Message], Value]
"""``(loaded model, message) -> value``, see :class:`edgekit.devices.worker.Worker`."""


def profile(runner: Runner, message: Message) -> Value:
    """``seconds``; the feed as arrays. See :func:`edgekit.bench.profile.profile`."""
    from edgekit.bench.profile import profile

    return profile(runner, message.arrays, float(message.header["seconds"]))


def serve(runner: Runner, message: Message) -> Value:
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
        "given_up": found.given_up,
        "longest_line": arrivals.longest_line(served, found.latency_ns),
        "wall_ns": int((served + found.latency_ns).max(initial=1)),
    }
    return Message(value, {"latency_ns": found.latency_ns, "service_ns": found.service_ns})


def stages(runner: Runner, message: Message) -> Value:
    """``input``: a raw sample as the worker finds it; ``seconds``. See :func:`edgekit.bench.stages.time_stages`."""
    from edgekit.bench.stages import time_stages

    return Message({}, time_stages(runner, str(message.header["input"]), float(message.header["seconds"])))


def transfer(runner: Runner, message: Message) -> Value:
    """``seconds``; the feed as arrays. Copies and the run apart. See :func:`edgekit.bench.stages.time_transfer`."""
    from edgekit.bench.stages import time_transfer

    sent = runner.transfer_bytes() or (0, 0)
    found = time_transfer(runner, message.arrays, float(message.header["seconds"]))
    return Message({"bytes_in": sent[0], "bytes_out": sent[1]}, found)


def instructions(runner: Runner, message: Message) -> None:
    """``runs``; the feed as arrays. Marks before so many runs, after them, and after twice as many more."""
    from edgekit.devices.instructions import mark

    call, runs = runner.bare(message.arrays), int(message.header["runs"])
    for _ in range(_WARM_CALLS):
        call()
    mark()
    for count in (runs, 2 * runs):
        for _ in range(count):
            call()
        mark()


def weights(runner: Runner, message: Message) -> Value:
    """Floating-point weights and how many are denormal. See :mod:`edgekit.bench.denormals`."""
    from edgekit.bench.denormals import counts, float_weights

    return counts(float_weights(runner))


def reset_cost(runner: Runner, message: Message) -> Value:
    """Nanoseconds of putting the model's state back, one by one."""
    from edgekit.bench.clock import WarmupRule, time_calls

    runner.run(message.arrays)
    block = time_calls(
        runner.reset, warmup=WarmupRule(3, 0, _RESET_NS), min_runs=11, min_ns=_RESET_NS // 10, max_ns=_RESET_NS
    )
    return Message({}, {"samples_ns": block.samples_ns})


def footprint(runner: Runner, message: Message) -> Value:
    """Memory of the process after a run on the feed, and the runtime's arena."""
    from edgekit.bench.memory import process_memory

    runner.run(message.arrays)
    return {**process_memory(), "arena_bytes": runner.arena_bytes()}


def optimize(runner: Runner, message: Message) -> None:
    """Writes what the runtime made of the model to ``target``, for a start that need not make it again."""
    runner.save_compiled(str(message.header["target"]))


def work(runner: Runner, message: Message) -> Value:
    """Operations and bytes of one inference on the feed. See :func:`edgekit.bench.roofline.work`."""
    from edgekit.bench.roofline import work

    return work(runner, message.arrays)


def energy(runner: Runner, message: Message) -> Value:
    """``seconds``; the feed as arrays. Energy by every meter there is. See :mod:`edgekit.bench.energy`."""
    from edgekit.bench.energy import find_meters, measure

    meters, refused = find_meters()
    if not meters:
        reason = "; ".join(refused) or "this machine shows no meter (no RAPL, no INA or other power sensor, no NVML)"
        return {"absent": reason}
    found = measure(runner.bare(message.arrays), float(message.header["seconds"]), meters)
    return {**found, "refused": refused}


def peaks(message: Message) -> Value:
    """``threads``, ``working_set_bytes``. See :func:`edgekit.bench.roofline.peaks.measure`."""
    from edgekit.bench.roofline.peaks import measure

    return measure(int(message.header["threads"]), int(message.header["working_set_bytes"]))


def drop_cache(message: Message) -> Value:
    """``path``: a file whose pages are to leave the page cache. See :func:`edgekit.bench.pagecache.drop`."""
    from edgekit.bench.pagecache import drop

    return drop(str(message.header["path"]))


def flush_denormals(message: Message) -> None:
    """From now on denormal numbers are zero here; before a model is loaded. See :mod:`edgekit.bench.denormals`."""
    from edgekit.bench.denormals import flush_to_zero

    flush_to_zero()


_WARM_CALLS = 3
_RESET_NS = 200_000_000

MEASURES: Mapping[str, Measure] = {
    "profile": profile,
    "serve": serve,
    "stages": stages,
    "transfer": transfer,
    "instructions": instructions,
    "weights": weights,
    "reset_cost": reset_cost,
    "footprint": footprint,
    "work": work,
    "energy": energy,
    "optimize": optimize,
}
TOOLS: Mapping[str, Callable[[Message], Value]] = {
    "drop_cache": drop_cache,
    "peaks": peaks,
    "flush_denormals": flush_denormals,
}
"""Commands that need no model."""
