"""The kinds of input a conversion is proved on: random, zeros, extremes, examples, real samples, every dynamic size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.data.seeded import extreme_feed, seeded_feed, zeros_feed
from edgekit.types import Array, Feed, InputContract, Signature

SEEDS = (0, 1, 2)
LENGTH_SEEDS = (3, 4, 5, 6, 7)
"""More random cases, where an input holds lengths of sequences: what is computed depends on how they fall together."""
INVENTED = ("zeros", "lowest", "highest")
"""Kinds whose values are of one piece, so that their booleans are all false or all true."""
SAMPLES = 8
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
    contract: Mapping[str, InputContract],
    *,
    examples: Feed | None = None,
    samples: Iterable[Feed] = (),
    minimum: Mapping[str, int] | None = None,
    maximum: Mapping[str, int] | None = None,
    held: Mapping[str, int] | None = None,
) -> Iterator[Case]:
    """Every case for a model with this signature, dynamic dimensions at the sizes of ``examples`` (else 1).

    Integers whose range no contract tells are kept within what ``examples`` show, since they are mostly indices;
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
    extremes = [case for kind in reversed(INVENTED) for case in made if case.kind == kind]
    return [Case("calls", one.feed) for extreme in extremes if usual for one in (extreme, usual)]


def with_possible_masks(
    made: Sequence[Case], reference: Callable[[Feed], Mapping[str, Array]]
) -> tuple[list[Case], tuple[str, ...]]:
    """``made``, and what to say of it: invented cases whose booleans make the reference give NaN get usual booleans.

    A mask that hides everything has no answer in torch's attention (softmax over nothing is NaN). The numbers of such a
    case stay as they are, its booleans become those of the first typical case. What gives NaN then, too, stays as it
    was, and fails.
    """
    usual = next((case for case in made if case.typical), None)
    masks = [] if usual is None else [name for name, array in usual.feed.items() if array.dtype.kind == "b"]
    if usual is None or not masks:
        return list(made), ()
    found, changed = [], []
    for case in made:
        found.append(case)
        if case.kind in INVENTED and not _finite(reference(case.feed)):
            again = replace(case, feed={**case.feed, **{name: usual.feed[name] for name in masks}})
            if _finite(reference(again.feed)):
                found[-1] = again
                changed.append(case.kind)
    if not changed:
        return found, ()
    note = (
        f"on the case {', '.join(changed)} the network itself gives NaN or infinity, as where a mask hides everything; "
        f"proved there with {', '.join(masks)} of the case {usual.kind!r}"
    )
    return found, (note,)


def _finite(outputs: Mapping[str, Array]) -> bool:
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


def _free(contract: InputContract | None) -> bool:
    """Whether the contract leaves open how large an integer may be; a text's and that of lengths say it."""
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
            bounded[name] = array % np.asarray(top + 1, array.dtype)
    return bounded
