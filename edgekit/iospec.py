"""What a network's inputs and outputs mean, as its user says it: how a picture becomes a tensor, what the answers are.

It comes as options of ``export``, as the third value that a factory returns, or as a small file::

    task = "classification"
    labels = "labels.txt"            # one a line, or a list
    mean = [0.485, 0.456, 0.406]     # in units of 0..1
    std = [0.229, 0.224, 0.225]

Fields of the input stand at the top where the network has one; else in ``[inputs.NAME]``. What is not said is read off
the shape of the input where that leaves no choice. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgekit.documents import parse_toml, typed
from edgekit.errors import DataError, UsageError
from edgekit.inputs import read_regular
from edgekit.taskfields import FORECAST, SCORES, detection_fields, forecast_params
from edgekit.taskfields import NAMES as DETECTION
from edgekit.types import Card, InputSpec, Task, TensorSpec

KINDS = ("image", "table", "audio", "text", "series", "array")
LAYOUTS = ("NCHW", "NHWC", "NHW")
COLORS = ("RGB", "BGR")
METRICS: Mapping[str, str] = {
    "classification": "accuracy",
    "segmentation": "miou",
    "detection": "map",
    "regression": "mae",
    "multilabel": "f1",
    "embedding": "recall_at_1",
    "ctc": "cer",
    "keypoints": "pck",
    "anomaly": "roc_auc",
    "forecasting": "mse",
    "generation": "frechet",
    "none": "",
}
"""Task -> name of its figure of merit."""
PARAMS: tuple[str, ...] = (
    "scores",
    "activation",
    "threshold",
    "blank",
    *(n for n in DETECTION if n not in ("activation", "threshold")),
    *FORECAST,
)
"""Fields of a task: what scores are, activation, limit of scores, CTC's blank; of a detector and of a forecast."""
_BYTES = 1 / 255


@dataclass(frozen=True, slots=True)
class InputFields:
    """What is said of one input; see :class:`edgekit.types.InputSpec`, whose fields these become.

    Attributes:
        kind: one of :data:`KINDS`; without it ``image`` for an input of rank 4, ``table`` for one of rank 2, and
            ``series`` for one of rank 3 where the task is forecasting.
        layout: one of :data:`LAYOUTS`.
        color: order of the channels in the tensor, RGB without it.
        size: height and width in pixels, where the shape leaves them free.
        resize, shorter, letterbox, interpolation: how a picture of another size gets there, see
            :mod:`edgekit.data.pixels`.
        scale: factor on the raw values: 1/255 without it for images of real numbers, else 1.
        mean, std: one value, or one a channel or column, in units of the scaled values.
        columns: names of the columns of a table or series, in order.
    """

    kind: str | None = None
    layout: str | None = None
    color: str | None = None
    size: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    shorter: int | None = None
    letterbox: int | None = None
    interpolation: str | None = None
    scale: float | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    columns: Sequence[str] = ()

    def over(self, other: InputFields) -> InputFields:
        """These fields, and those of ``other`` where this says nothing."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) not in (None, ())}
        return replace(other, **own)


@dataclass(frozen=True, slots=True)
class IoSpec:
    """What is said of a network's inputs and outputs.

    Attributes:
        task: one of :data:`METRICS`; ``classification`` where there are labels and no task.
        labels: class names in the order of the outputs.
        params: what else belongs to the task (``activation`` of scores, format of ``boxes``, ``threshold``).
        input: of the only input, or the only one of rank 4.
        inputs: of inputs by name.
    """

    task: str | None = None
    labels: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    input: InputFields = InputFields()
    inputs: Mapping[str, InputFields] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self != IoSpec()

    def over(self, other: IoSpec) -> IoSpec:
        """This, and what ``other`` says where this says nothing."""
        names = dict.fromkeys((*self.inputs, *other.inputs))
        nothing = InputFields()
        return IoSpec(
            self.task or other.task,
            self.labels or other.labels,
            {**other.params, **self.params},
            self.input.over(other.input),
            {n: self.inputs.get(n, nothing).over(other.inputs.get(n, nothing)) for n in names},
        )

    def applied(self, card: Card) -> Card:
        """``card`` with what is said here.

        Raises:
            UsageError: it does not fit the inputs or outputs, or leaves open what has to be known.
        """
        if not self:
            return card
        contract = {**card.contract, **self._contracts(card)}
        return replace(card, contract=contract, task=self._task(card, contract))

    def _contracts(self, card: Card) -> dict[str, InputSpec]:
        specs = {spec.name: spec for spec in card.signature.inputs}
        unknown = [name for name in self.inputs if name not in specs]
        if unknown:
            raise UsageError(f"the network has no input {unknown[0]!r}; it has: {', '.join(specs)}")
        said = dict(self.inputs)
        if self.input != InputFields():
            images = [name for name, spec in specs.items() if len(spec.shape) == 4]
            only = list(specs) if len(specs) == 1 else images
            if len(only) != 1:
                raise UsageError(
                    f"mean, std, layout and size are of one input, and the network has {', '.join(specs)}; say of "
                    "which in an io.toml with a table [inputs.NAME]: --io-file io.toml"
                )
            said[only[0]] = said.get(only[0], InputFields()).over(self.input)
        task = self.task or card.task.kind
        return {name: _contract(specs[name], one, task) for name, one in said.items()}

    def _task(self, card: Card, contract: Mapping[str, InputSpec]) -> Task:
        kind = self.task or ("classification" if self.labels and card.task.kind == "none" else card.task.kind)
        if self.labels:
            widths = [spec.shape[-1] for spec in card.signature.outputs if spec.shape]
            if kind in ("classification", "multilabel") and len(self.labels) not in widths:
                shown = ", ".join(map(str, card.signature.outputs))
                raise UsageError(f"there are {len(self.labels)} labels, and no output has as many values: {shown}")
        old = card.task
        params = {**(old.params if old.kind == kind else {}), **self.params}
        labels = self.labels or (old.labels if old.kind == kind else ())
        if kind == "detection":
            detection_fields(params, UsageError, "the task is detection")
        if kind == "forecasting" and "target" in self.params:
            params = _forecast(params, card, contract)
        return Task(kind, labels, METRICS[kind] if kind != old.kind else old.metric, params)


def read_iospec(path: str | Path) -> IoSpec:
    """What the file ``io.toml`` says; a labels file is looked for beside it.

    Raises:
        DataError: it cannot be read, a field is not known or has another type.
    """
    file = Path(path)
    try:
        text = read_regular(file, DataError, "an io.toml", "DOCUMENT_BYTES").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text, so it is not an io.toml") from error
    return parse_iospec(parse_toml(text, DataError, file), str(path), file.parent)


def given_iospec(
    io_file: str | Path | None,
    mean: Sequence[float | str],
    std: Sequence[float | str],
    labels: str | Path | None,
    task: str | None,
    layout: str | None,
) -> IoSpec:
    """What the options of a command say: each by itself stands above the file.

    Raises:
        DataError: the file or the labels cannot be read.
        UsageError: a text where a number was expected.
    """
    said = IoSpec(
        task,
        () if labels is None else read_labels(Path(labels)),
        input=InputFields(layout=layout, mean=_numbers("--mean", mean), std=_numbers("--std", std)),
    )
    return said if io_file is None else said.over(read_iospec(io_file))


def _numbers(flag: str, values: Sequence[float | str]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except ValueError as error:
        raise UsageError(
            f"{flag} {','.join(map(str, values))}: give numbers, as in {flag} 0.485,0.456,0.406"
        ) from error


def parse_iospec(document: Mapping[str, Any], where: str, folder: Path = Path()) -> IoSpec:
    """What a parsed ``io.toml``, or the dict that a factory returns, says. ``where``: its place, for messages.

    Raises:
        DataError: a field is not known or has another type.
    """
    known = {f.name for f in fields(InputFields)}
    flat = {key: value for key, value in document.items() if key in known}
    rest = {key: value for key, value in document.items() if key not in known}
    inputs = rest.pop("inputs", {})
    task, labels = rest.pop("task", None), rest.pop("labels", ())
    params = {key: rest.pop(key) for key in PARAMS if key in rest}
    if rest:
        name = next(iter(rest))
        every = (*known, "task", "labels", "inputs", *PARAMS)
        close = get_close_matches(name, every, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(every))}"
        raise DataError(f"{where}: there is no field {name!r}; {hint}")
    if params.get("scores", SCORES[0]) not in SCORES:
        raise DataError(f"{where}: scores is {params['scores']!r}; there are: {', '.join(SCORES)}")
    if not isinstance(inputs, Mapping):
        raise DataError(f"{where}: inputs is not a table; write [inputs.NAME]")
    if task is not None and task not in METRICS:
        raise DataError(f"{where}: there is no task {task!r}; there are: {', '.join(METRICS)}")
    if isinstance(labels, str):
        labels = read_labels(folder / labels)
    elif not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: labels are a list of texts, or the name of a file with one a line")
    return IoSpec(
        task,
        tuple(labels),
        params,
        _fields(flat, where),
        {name: _fields(one, f"{where}: inputs.{name}") for name, one in inputs.items()},
    )


def _fields(document: Any, where: str) -> InputFields:
    known = [f.name for f in fields(InputFields)]
    if isinstance(document, Mapping):
        document = {k: [v] if k in ("mean", "std") and isinstance(v, int | float) else v for k, v in document.items()}
        strange = [key for key in document if key not in known]
        if strange:
            raise DataError(f"{where}: there is no field {strange[0]!r}; there are: {', '.join(known)}")
    try:
        return typed(InputFields, document, where)
    except ValueError as error:
        raise DataError(str(error)) from error


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names, one a line; empty lines at the end do not count.

    Raises:
        DataError: no such file, not text, an empty line between others, or none at all.
    """
    content = read_regular(path, DataError, "a file of labels, one a line", "DOCUMENT_BYTES")
    try:
        lines = content.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; a file of labels has one name a line") from error
    names = tuple(line.strip() for line in lines)
    if not names or "" in names:
        where = f"line {names.index('') + 1} is empty" if names else "the file is empty"
        raise DataError(f"{path}: {where}; a file of labels has one name a line, in the order of the outputs")
    return names


def _forecast(params: dict[str, Any], card: Card, contract: Mapping[str, InputSpec]) -> dict[str, Any]:
    """``params`` with the horizon and the units of the forecasts.

    Raises:
        UsageError: the target is not one of the columns of a series, or ``standardised`` not true or false.
    """
    rules = [rule for rule in contract.values() if rule.kind == "series"]
    columns = rules[0].columns if rules else ()
    if params["target"] not in columns:
        known = f"there are: {', '.join(columns)}" if columns else "give the names of the columns, in order, as columns"
        raise UsageError(f"target is {params['target']!r}, which is not a column of the series; {known}")
    if not isinstance(params.get("standardised", True), bool):
        raise UsageError(f"standardised is {params['standardised']!r}; it is true or false")
    return forecast_params(params, math.prod(card.signature.outputs[0].resolved()[1:]), rules[0])


def _kind(spec: TensorSpec, said: InputFields, task: str) -> str:
    """What the input ``spec`` is where nothing says it.

    Raises:
        UsageError: numbers to normalise with are given, and what they are applied to cannot be read off the shape.
    """
    if len(spec.shape) == 4 or said.layout:
        return "image"
    if len(spec.shape) == 2:
        return "table"
    if len(spec.shape) == 3 and task == "forecasting":
        return "series"
    if said != InputFields():
        raise UsageError(
            f"nothing says what the input {spec} is, so that mean, std and the like cannot be applied; give its kind "
            f"in an io.toml, or in what the factory returns: one of {', '.join(KINDS)}"
        )
    return "array"


def _contract(spec: TensorSpec, said: InputFields, task: str) -> InputSpec:
    """The contract of the input ``spec`` of a network for ``task``.

    Raises:
        UsageError: what is said does not fit its shape, or leaves a choice.
    """
    kind = said.kind or _kind(spec, said, task)
    _check(said, kind, spec)
    if kind != "image":
        last = spec.shape[-1] if spec.shape else 1
        columns = last if isinstance(last, int) else len(said.mean or said.std) or 1
        mean, std = (_wide(name, values, columns, spec) for name, values in (("mean", said.mean), ("std", said.std)))
        if said.columns and len(said.columns) != last and isinstance(last, int):
            raise UsageError(f"there are {len(said.columns)} names of columns, and {spec} has {last} columns")
        history = spec.shape[1] if kind == "series" and len(spec.shape) == 3 else None
        params = {"history": history} if isinstance(history, int) else {}
        scale = 1.0 if said.scale is None else said.scale
        return InputSpec(kind, "", None, 0, scale, mean, std, tuple(said.columns), params)
    layout = said.layout or _layout(spec)
    if len(spec.shape) != (3 if layout == "NHW" else 4):
        raise UsageError(f"an image in the layout {layout} has {len(layout)} axes, the input is {spec}")
    axis = layout.find("C")
    places = (layout.index("H"), layout.index("W"))
    channels: int | str = spec.shape[axis] if axis >= 0 else 1
    height, width = spec.shape[places[0]], spec.shape[places[1]]
    if layout == "NHW" and said.size is not None and isinstance(width, int):
        channels = max(width // said.size[1], 1)
        width = said.size[1]
    if not isinstance(channels, int) or channels not in (1, 3):
        raise UsageError(
            f"an image has 1 channel or 3, and axis {axis} of {spec} is {channels}; give the other layout: "
            f"{'NHWC' if layout == 'NCHW' else 'NCHW'}"
        )
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    if fixed is not None and said.size is not None and said.size != fixed:
        raise UsageError(f"size is {said.size[0]} x {said.size[1]}, the input {spec} takes {height} x {width}")
    how: dict[str, Any] = {}
    if said.color == "BGR":
        how["color"] = "BGR"
    for name in ("interpolation", "shorter", "letterbox"):
        if getattr(said, name) is not None:
            how[name] = getattr(said, name)
    if said.resize is not None:
        how["resize"] = list(said.resize)
    real = spec.dtype.startswith("float")
    scale = said.scale if said.scale is not None else _BYTES if real else 1.0
    mean, std = (_wide(name, values, channels, spec) for name, values in (("mean", said.mean), ("std", said.std)))
    return InputSpec("image", layout, fixed or said.size, channels, scale, mean, std, params=how)


def _check(said: InputFields, kind: str, spec: TensorSpec) -> None:
    for name, value, there in (("kind", kind, KINDS), ("layout", said.layout, LAYOUTS), ("color", said.color, COLORS)):
        if value is not None and value not in there:
            raise UsageError(f"{name} of {spec.name} is {value!r}; there are: {', '.join(there)}")
    if kind == "array" and (said.mean or said.std or said.scale is not None):
        raise UsageError(
            f"{spec.name} is an array, which is fed as it is, without mean, std and scale; give another kind: "
            f"{', '.join(name for name in KINDS if name != 'array')}"
        )
    if kind == "series" and len(spec.shape) != 3:
        raise UsageError(f"a series is (batch, time, columns), the input is {spec}; give another kind")
    if said.letterbox is not None and not 0 <= said.letterbox <= 255:
        raise UsageError(f"letterbox of {spec.name} is {said.letterbox}; it is the grey of the bars, 0 to 255")
    if not all(math.isfinite(value) for value in (*said.mean, *said.std, said.scale or 1)):
        raise UsageError(f"mean, std and scale of {spec.name} are finite numbers")
    if any(value <= 0 for value in said.std):
        raise UsageError(f"std of {spec.name} is {min(said.std):g}; it is divided by, so give numbers above 0")
    if kind == "image" and said.scale is None and any(abs(value) > 10 for value in said.mean):
        raise UsageError(
            f"mean of {spec.name} is {max(said.mean):g}; mean and std are in units of 0..1, so divide them by 255 (or "
            "give scale = 1 in an io.toml, where the network takes pixels of 0 to 255)"
        )


def _wide(name: str, values: Sequence[float], width: int, spec: TensorSpec) -> tuple[float, ...]:
    if len(values) not in (0, 1, width):
        raise UsageError(
            f"{name} has {len(values)} values, and {spec} has {width} channels or columns; give 1 or {width}"
        )
    return tuple(values) * width if len(values) == 1 else tuple(values)


def _layout(spec: TensorSpec) -> str:
    if len(spec.shape) != 4:
        raise UsageError(f"an image has 4 axes (NCHW or NHWC), the input is {spec}; give another kind or a layout")
    first, last = spec.shape[1] in (1, 3), spec.shape[3] in (1, 3)
    if first == last:
        raise UsageError(f"the layout of {spec} cannot be read off its shape; give --layout NCHW or NHWC")
    return "NCHW" if first else "NHWC"
