"""The kinds of input a conversion is proved on: random, zeros, extremes, examples, real samples, every dynamic size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.data.seeded import extreme_feed, seeded_feed, zeros_feed
from edgekit.errors import DeviceError
from edgekit.types import Array, Feed, InputSpec, Signature

SEEDS = (0, 1, 2)
LENGTH_SEEDS = (3, 4, 5, 6, 7)
"""More random cases, where an input holds lengths of sequences: what is computed depends on how they fall together."""
REAL = ("example", "sample")
"""Kinds whose values somebody gave."""
CASE_SAMPLES = 8
"""Real samples a proof takes from a data set."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input of a proof. ``kind``: random, lengths, example, zeros, lowest, highest, sample, ``batch=5`` for a size,
    or calls."""

    kind: str
    feed: Feed
    typical: bool = False
    """The outputs on this input tell how large outputs usually are (extremes and zeros do not)."""


def cases(
    signature: Signature,
    contract: Mapping[str, InputSpec],
    *,
    examples: Feed | None = None,
    samples: Iterable[Feed] = (),
    minimum: Mapping[str, int] | None = None,
    maximum: Mapping[str, int] | None = None,
    held: Mapping[str, int] | None = None,
) -> Iterator[Case]:
    """Every case for a model with this signature, dynamic dimensions at the sizes of ``examples`` (else 1).

    Integers whose range no spec tells are kept within what ``examples`` show, since they are mostly indices;
    without examples they are 0 to 9. Each dynamic dimension is run at 1, 2, 5 and twice the example's size, the others
    as they are; ``minimum`` has the smallest size of those that do not go down to 1, ``maximum`` the largest of
    those that have one. ``held`` has those that are run at one size only; examples of another are left out.
    """
    base = sizes(signature, examples)
    held = held or {}
    if any(base[name] != size for name, size in held.items()):
        base, examples = {**base, **held}, None
    shown = None if examples is None else {name: v for name, v in examples.items() if _free(contract.get(name))}
    for seed in SEEDS:
        yield Case("random", _bounded(seeded_feed(signature, contract, seed, dims=base), shown), typical=True)
    if examples is not None:
        yield Case("example", examples, typical=True)
    if any("most" in rule.params for rule in contract.values()):
        for seed in LENGTH_SEEDS:
            yield Case("lengths", _bounded(seeded_feed(signature, contract, seed, dims=base), shown), typical=True)
    yield Case("zeros", zeros_feed(signature, contract, dims=base))
    yield Case("lowest", _bounded(extreme_feed(signature, contract, -1, dims=base), shown))
    yield Case("highest", _bounded(extreme_feed(signature, contract, 1, dims=base), shown))
    for feed in samples:
        yield Case("sample", feed, typical=True)
    for name in signature.dynamic_dims:
        if name in held:
            continue
        least, most = (minimum or {}).get(name, 1), (maximum or {}).get(name, 2 * base[name] + 5)
        wanted = {min(max(size, least), most) for size in (1, 2, 5, 2 * base[name])}
        for size in sorted(wanted - {base[name]}):
            feed = seeded_feed(signature, contract, size, dims={**base, name: size})
            yield Case(f"{name}={size}", _bounded(feed, shown))


def again(made: Sequence[Case]) -> list[Case]:
    """More calls on inputs that were run before: what is usual behind each extreme and zeros, of which a state may be
    left. A real sample is more usual than an example, and that than random numbers."""
    usual = next((case for kind in ("sample", "example", "random") for case in made if case.kind == kind), None)
    extremes = [case for kind in ("highest", "lowest", "zeros") for case in made if case.kind == kind]
    return [Case("calls", one.feed) for extreme in extremes if usual for one in (extreme, usual)]


def with_possible_masks(
    made: Sequence[Case], reference: Callable[[Feed], Mapping[str, Array]]
) -> tuple[list[Case], tuple[str, ...]]:
    """``made``, and what to say of it: made-up cases that the reference has no answer to get other booleans.

    A mask that hides every key of a query has no answer in torch's attention (softmax over nothing is NaN), and random
    ones do, beside a causal mask; an encoder of nested tensors raises where all is padding. The numbers of such a case
    stay as they are, its booleans become true at the end only, or at the beginning only, or those of a real case. What
    has no answer then, too, stays as it was, and fails.
    """
    masks = sorted({name for case in made for name, array in case.feed.items() if array.dtype.kind == "b"})
    if not masks:
        return list(made), ()
    real = next((case.feed for case in made if case.kind in REAL), None)
    found: list[Case] = []
    changed: dict[str, list[str]] = {}
    for case in made:
        found.append(case)
        if case.kind in REAL or _answers(reference, case.feed):
            continue
        for how, feed in _other_masks(case.feed, masks, real):
            if _answers(reference, feed):
                found[-1] = replace(case, feed=feed)
                changed.setdefault(how, []).append(case.kind)
                break
    notes = (
        f"on the case {', '.join(dict.fromkeys(kinds))} the network itself gives NaN, infinity or an error, as where a "
        f"mask hides everything; proved there with {', '.join(masks)} {how}"
        for how, kinds in changed.items()
    )
    return found, tuple(notes)


def _other_masks(feed: Feed, masks: Sequence[str], real: Feed | None) -> Iterator[tuple[str, Feed]]:
    """``feed`` with other booleans, and what is true in them: more in one row than in another, never all of the last
    axis, or of the first place alone."""

    def ends(array: Array) -> Array:
        size = array.shape[-1] if array.ndim else 1
        rows = np.arange(array.size // max(size, 1)).reshape(*array.shape[:-1], 1)
        behind: Array = np.arange(size) > rows % max(size, 1)
        return behind.reshape(array.shape)

    yield "true at the end only", {**feed, **{name: ends(feed[name]) for name in masks}}
    yield "true at the beginning only", {**feed, **{name: ~ends(feed[name]) for name in masks}}
    if real is not None and all(real[name].shape == feed[name].shape for name in masks):
        yield "of a real input", {**feed, **{name: real[name] for name in masks}}


def _answers(reference: Callable[[Feed], Mapping[str, Array]], feed: Feed) -> bool:
    """Whether the reference gives finite numbers."""
    try:
        outputs = reference(feed)
    except DeviceError:
        return False
    return all(np.isfinite(array).all() for array in outputs.values())


def sizes(signature: Signature, examples: Feed | None) -> dict[str, int]:
    """The size each dynamic dimension has in ``examples``; 1 without them."""
    found = dict.fromkeys(signature.dynamic_dims, 1)
    if examples is None:
        return found
    for spec in signature.inputs:
        for dim, size in zip(spec.shape, examples[spec.name].shape, strict=True):
            if isinstance(dim, str):
                found[dim] = int(size)
    return found


def _free(contract: InputSpec | None) -> bool:
    """Whether the spec leaves open how large an integer may be; a text's and that of lengths say it."""
    return contract is None or (contract.kind != "text" and "most" not in contract.params)


def _bounded(feed: Feed, examples: Feed | None) -> Feed:
    """Integer inputs folded into the range 0 to the largest value of the example, where there is one."""
    if examples is None:
        return feed
    bounded: dict[str, Array] = {}
    for name, array in feed.items():
        bounded[name] = array
        if array.dtype.kind in "iu" and name in examples and examples[name].size:
            top = max(int(np.max(examples[name])), 0)
            bounded[name] = np.asarray(array % np.asarray(top + 1, array.dtype))  # of 0-d arrays numpy makes scalars
    return bounded
