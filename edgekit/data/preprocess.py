"""The input spec at work: raw samples become model-ready feeds. numpy only."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgekit import registry
from edgekit.data import noise
from edgekit.data.arrays import read_npy, read_npz
from edgekit.data.dataset import Dataset, Picked
from edgekit.data.kind import DataKind
from edgekit.errors import DataError
from edgekit.types import Array, Feed, InputSpec, Signature, TensorSpec

log = logging.getLogger("edgekit")


def apply_contract(raw: Sequence[Array] | Array, contract: InputSpec, dtype: str = "float32") -> Array:
    """Raw samples (first axis = sample) as one model-ready batch of ``dtype``.

    Raises:
        DataError: samples that do not fit the contract.
    """
    if contract.kind == "array":
        rows = [np.asarray(row) for row in raw]
        odd = next((k for k, row in enumerate(rows) if row.shape != rows[0].shape), None)
        if odd is not None:
            raise DataError(
                f"the samples have several shapes: {list(rows[0].shape)} and, {odd} further on, "
                f"{list(rows[odd].shape)}; a batch takes arrays of one shape: pad or resize them before"
            )
        stacked = np.stack(rows)
        return stacked.astype(dtype, copy=False) if _harmless(stacked.dtype, dtype) else stacked
    return _kind(contract.kind).encode(raw, contract).astype(dtype, copy=False)


def arranged(raw: Sequence[Array] | Array, columns: tuple[str, ...], contract: InputSpec) -> Sequence[Array] | Array:
    """Samples with the spec's columns, where their kind has columns with names; else as they are.

    Raises:
        DataError: the columns the spec names are not there.
    """
    arrange = None if contract.kind == "array" else _kind(contract.kind).arrange
    return raw if arrange is None else arrange(raw, columns, contract)


def _kind(name: str) -> DataKind:
    found = registry.lookup("kinds", name)
    if not isinstance(found, DataKind):
        raise DataError(f"the entry point of the kind {name!r} gave {type(found).__name__}, a DataKind was expected")
    return found


def _harmless(found: np.dtype[np.generic], wanted: str) -> bool:
    """Whether a cast keeps the kind (float to float, integer to integer); others are left for the runner to refuse."""
    return found.kind == np.dtype(wanted).kind or {found.kind, np.dtype(wanted).kind} <= {"i", "u"}


def _without_spec(spec: TensorSpec, dataset: Dataset) -> InputSpec:
    """How samples become an input that the file says nothing about: values are fed as they are.

    Raises:
        DataError: pictures; how they were normalised cannot be guessed.
    """
    if dataset.kind == "image":
        raise DataError(
            f"nothing says how a picture becomes the input {spec}, and a wrong guess gives wrong answers. Export the "
            "network with --mean and --std, or with --layout alone where it takes values of 0..1; for a finished file "
            "give --io-file io.toml (mean, std, layout; docs/own-work.md)"
        )
    return InputSpec("table" if dataset.kind == "table" else "array")


def _bind(dataset: Dataset, signature: Signature, contract: Mapping[str, InputSpec]) -> list[_Bound]:
    """Which array of the data set feeds which input, and how."""
    bound = []
    for stream, spec in enumerate(signature.inputs):
        rule = contract.get(spec.name)
        if rule is not None and rule.kind == "noise" and dataset.kind != "array":
            # a generator's input is not a sample of the data: as many rows of noise as there are samples
            bound.append(_Bound(spec, rule, noise.normal(stream, len(dataset), spec.resolved()[1:])))
            continue
        key = array_for(dataset, spec.name, len(signature.inputs))
        if dataset.kind == "array":
            samples = dataset.arrays[key]
            shape = samples.shape if isinstance(samples, np.ndarray) else np.shape(samples[0]) if len(samples) else ()
            turned = _turned(spec, rule, shape, dataset.label)
            bound.append(
                _Bound(spec, InputSpec("array"), arranged(samples, dataset.columns, InputSpec("array")), turned)
            )
            continue
        if rule is None and dataset.kind == "audio":
            raise DataError(
                f"the model's input {spec.name!r} has no input spec, so how a recording becomes {spec} is unknown; "
                "give arrays that are ready for it, as npz:FILE"
            )
        if rule is None:
            rule = _without_spec(spec, dataset)
        elif rule.kind not in ("array", dataset.kind):
            raise DataError(
                f"{dataset.label} holds {dataset.kind} samples, the model's input {spec.name!r} takes {rule.kind}"
            )
        if dataset.kind in ("table", "series") and not rule.mean and not rule.std:
            _say_once(f"{dataset.name}: nothing says a mean and std of the columns; the values are fed as they are")
        samples = dataset.arrays[key]
        bound.append(_Bound(spec, rule, arranged(samples, dataset.columns, rule)))
    return bound


def array_for(dataset: Dataset, name: str, inputs: int) -> str:
    """Name of the array of ``dataset`` that feeds the input ``name`` of a model with so many ``inputs``.

    Raises:
        DataError: none does.
    """
    if name in dataset.arrays:
        return name
    if inputs == 1 and len(dataset.arrays) == 1:
        only = next(iter(dataset.arrays))
        if dataset.kind != "array" or only in ("inputs", "input", "x", "arr_0"):
            return only
    if inputs == 1 and "inputs" in dataset.arrays:
        return "inputs"
    if dataset.kind == "text":
        raise DataError(
            f"{dataset.name} holds sentences, and the model's input {name!r} takes what a tokenizer makes of them, "
            "which the file does not have; call it in a function of yours: --data file.py:function (docs/own-work.md)"
        )
    raise DataError(
        f"{dataset.name} has no array for the model's input {name!r}; it has: {', '.join(dataset.arrays)}. Name the "
        "arrays like the model's inputs"
    )


_ORDERS = {"NHWC": (0, 2, 3, 1), "NCHW": (0, 3, 1, 2)}
"""Layout of an image input -> the axes of an array in the other layout that make it."""


def _turned(spec: TensorSpec, rule: InputSpec | None, shape: tuple[int, ...], where: str) -> tuple[int, ...] | None:
    """How arrays whose last three axes are ``shape``'s become an image input of the other layout; None where they
    have the input's own, or none that can be turned."""
    order = _ORDERS.get(rule.layout) if rule is not None and rule.kind == "image" else None
    if order is None or len(spec.shape) != len(order) or len(shape) < len(order) - 1:
        return None
    last = shape[-3:]

    def fit(sizes: Sequence[int]) -> bool:
        return all(
            isinstance(wanted, str) or wanted == size for wanted, size in zip(spec.shape[1:], sizes, strict=True)
        )

    if fit(last) or not fit([last[axis - 1] for axis in order[1:]]):
        return None
    names = ["(channels, height, width)", "(height, width, channels)"]
    mine, theirs = names if rule is not None and rule.layout == "NCHW" else names[::-1]
    _say_once(f"{where}: arrays for {spec.name} are {theirs}, the model takes {mine}; turned")
    return order


@lru_cache
def _say_once(line: str) -> None:
    """Says ``line`` the first time: the same data are gone through many times in a run."""
    log.info("%s", line)


class _Bound:
    """One input of the model with the samples that feed it; ``turned``: the order of axes that its layout needs."""

    def __init__(
        self,
        spec: TensorSpec,
        contract: InputSpec,
        samples: Sequence[Array] | Array,
        turned: tuple[int, ...] | None = None,
    ) -> None:
        self.spec, self.contract, self.samples, self.turned = spec, contract, samples, turned

    def remark(self, count: int) -> None:
        """Says what the user should know about the first ``count`` samples."""
        kind = None if self.contract.kind == "array" else _kind(self.contract.kind)
        if kind is not None and kind.remarks is not None:
            shown = self.samples[:count] if isinstance(self.samples, np.ndarray) else Picked(self.samples, range(count))
            for line in kind.remarks(shown, self.contract):
                log.info("%s", line)

    @property
    def whole(self) -> bool:
        """Whether a sample is shaped as the input is, its batch axis included, wherever that lies: a sequence with the
        time first, a state, a number without any axis."""
        array = self.contract.kind == "array" and len(self.samples) > 0
        return array and np.ndim(self.samples[0]) == len(self.spec.shape)

    @property
    def uneven(self) -> bool:
        """Whether the samples are arrays of several shapes: sequences of several lengths, for one."""
        if self.contract.kind != "array" or isinstance(self.samples, np.ndarray):
            return False
        return len({np.shape(self.samples[place]) for place in range(len(self.samples))}) > 1

    def _raw(self, start: int, stop: int) -> Sequence[Array] | Array:
        if isinstance(self.samples, np.ndarray):
            return self.samples[start:stop]
        return [self.samples[k] for k in range(start, stop)]

    def batch(self, start: int, stop: int) -> Array:
        """Samples ``start`` to ``stop`` with the batch on axis 0; of :attr:`whole` ones the first, as it is."""
        raw = self._raw(start, stop)
        dtype = self.spec.dtype
        if np.dtype(dtype).kind in "iu" and self.contract.kind not in ("array", "text"):
            dtype = "float32"  # real values: the runner quantizes them with the file's own scale
        made = apply_contract(raw, self.contract, dtype)
        made = np.asarray(made[0]) if self.whole else made
        return made if self.turned is None else np.asarray(made.transpose(self.turned), order="C")


def whole_samples(dataset: Dataset, signature: Signature, contract: Mapping[str, InputSpec]) -> bool:
    """Whether a sample of ``dataset`` is a feed by itself and cannot be joined with others: an array is shaped like its
    input, where others lack the leading 1; or the samples are of several shapes.

    Raises:
        DataError: the data set does not fit the model's inputs.
    """
    return any(item.whole or item.uneven for item in _bind(dataset, signature, contract))


def batches(
    dataset: Dataset,
    signature: Signature,
    contract: Mapping[str, InputSpec],
    *,
    batch: int = 1,
    limit: int | None = None,
) -> Iterator[tuple[Feed, Array | None]]:
    """Model-ready feeds of ``batch`` samples with their labels, in order; the last one may be shorter. One sample each
    where they are :func:`whole_samples`.

    Raises:
        DataError: the data set does not fit the model's inputs, or a sample cannot be read.
    """
    bound = _bind(dataset, signature, contract)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    batch = 1 if any(item.whole or item.uneven for item in bound) else batch
    for item in bound:
        item.remark(count)
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        labels = None if dataset.labels is None else dataset.labels[start:stop]
        yield {item.spec.name: item.batch(start, stop) for item in bound}, labels


def feeds(
    dataset: Dataset,
    signature: Signature,
    contract: Mapping[str, InputSpec],
    *,
    batch: int = 1,
    limit: int | None = None,
) -> Iterator[Feed]:
    """:func:`batches` without the labels."""
    for feed, _ in batches(dataset, signature, contract, batch=batch, limit=limit):
        yield feed


def sample_feed(given: str, signature: Signature, contract: Mapping[str, InputSpec]) -> Feed:
    """One user input as a feed of batch 1: .npz or .npy hold model-ready arrays, the rest is read by its kind.

    Raises:
        DataError: the file cannot be read, or does not fit the model's inputs.
    """
    suffix = Path(given).suffix.lower()
    if suffix == ".npz":
        return _named_arrays(Path(given), read_npz(Path(given)), signature, contract)
    if suffix == ".npy":
        return _named_arrays(Path(given), {"inputs": read_npy(Path(given))}, signature, contract)
    name = _kind_of_input(given, suffix, contract)
    asked = noise.spelled(given) if name == "noise" else None
    if asked is not None:  # the first sample of those that are spelled: its shape is the model's to say
        return {
            spec.name: noise.normal(asked[1] + stream, 1, spec.resolved()[1:])
            for stream, spec in enumerate(signature.inputs)
        }
    kind = _kind(name)
    columns = kind.columns(given) if kind.columns is not None else ()
    return next(feeds(Dataset(given, "all", name, {name: [kind.read(given)]}, columns=columns), signature, contract))


def _kind_of_input(given: str, suffix: str, contract: Mapping[str, InputSpec]) -> str:
    """The kind the model was made for; where it does not say, the kind the file's suffix tells."""
    wanted = {rule.kind for rule in contract.values()} - {"array"}
    if len(wanted) == 1:
        return wanted.pop()
    suffixes = {s: name for name in registry.names("kinds") for s in _kind(name).suffixes}
    if suffix not in suffixes:
        known = ", ".join((*suffixes, ".npz", ".npy"))
        raise DataError(f"{given} is of no kind that can be read; an input is a file ending in one of {known}")
    return suffixes[suffix]


def _named_arrays(
    path: Path, arrays: dict[str, Array], signature: Signature, contract: Mapping[str, InputSpec]
) -> Feed:
    """The arrays of a file by input name; an array without the batch axis gets one, an image of the other layout is
    turned."""
    arrays.pop("labels", None)
    dataset = Dataset(str(path), "all", "array", arrays)
    feed = {}
    for spec in signature.inputs:
        array = arrays[array_for(dataset, spec.name, len(signature.inputs))]
        if array.ndim == len(spec.shape) - 1:
            array = array[None]
        order = _turned(spec, contract.get(spec.name), array.shape, str(path))
        array = array if order is None or array.ndim != len(order) else np.asarray(array.transpose(order), order="C")
        feed[spec.name] = array.astype(spec.dtype) if _harmless(array.dtype, spec.dtype) else array
    return feed
