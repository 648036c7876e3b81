"""Option groups shared by the verbs, and :func:`emit`, through which every result leaves.

Result tables and ``--json -`` go to standard output. While a verb runs, anything else that writes there (a library's
``print``, C++ code that writes to descriptor 1) is sent to standard error: a document on standard output is alone.
Progress and notes go through ``logging.getLogger("edgekit")`` to standard error.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TextIO, TypeVar

import click

from edgekit.escapes import set_off
from edgekit.reading import whole_number

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What an option is: it gives back a function of the same arguments."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...


class Result(Protocol):
    """What a pipeline verb gives back: ``document()`` is the body of its JSON document, without envelope."""

    def document(self) -> dict[str, Any]: ...


Render = Callable[[Any], Any]
"""Result -> what ``rich`` can print: a string, a table, or a group of them (see :mod:`edgekit.report.text`)."""


@dataclass
class State:
    """What ``--json``, ``-q`` and ``--debug`` said, the standard output that results are written to, and the number of
    the signal that ended the command, if one did."""

    json: str | None = None
    quiet: bool = False
    debug: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    signal: int = 0


def _state() -> State:
    return click.get_current_context().ensure_object(State)


def _sink() -> Callable[[dict[str, Any]], None] | None:
    """What takes the document in place of file and screen, for a command that is a step of a recipe: standard output
    and the logs are then guarded by the outer command, or by the program that called it."""
    from edgekit.recipe import SINK

    found: Callable[[dict[str, Any]], None] | None = click.get_current_context().meta.get(SINK)
    return found


def json_path() -> str | None:
    """The regular file that ``--json`` names; None without one, for standard output, pipes and devices."""
    from edgekit.outputs import is_stream

    path = _state().json
    return None if path is None or path == "-" or is_stream(path) else path


def _set(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is None:
        return value
    if param.name == "json" and value != "-":
        value = _checked_target(value)
    setattr(ctx.ensure_object(State), str(param.name), value)
    return value


def _checked_target(path: str) -> str:
    """``path``, refused before the work where it cannot be written; ``-`` where it is another name of standard output,
    on which a document stands alone."""
    from edgekit.outputs import check_output, descriptor_of, is_stream, real_place

    if os.path.isdir(path):
        raise click.BadParameter(f"{path!r} is a folder; name a file, or - for standard output")
    check_output(path)
    if is_stream(path):
        return "-" if descriptor_of(path) == 1 else path
    parent = real_place(path).parent
    if not parent.is_dir():
        raise click.BadParameter(f"the folder {str(parent)!r} does not exist; make it first")
    return path


def output_options(function: Callable[P, R]) -> Callable[P, R]:
    """``--json PATH``, ``-q/--quiet`` and ``--debug``; passes no argument on: :func:`emit` knows them."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if _sink() is not None:
            return function(*args, **kwargs)
        from edgekit.leftovers import sweep

        sweep()  # what commands that were killed have left
        with _logging(_state()), _quiet_stdout(_state()):
            return function(*args, **kwargs)

    options = (
        click.option("--json", metavar="PATH", expose_value=False, callback=_set, is_eager=True,
                     help="Write the result as a JSON document; - for standard output."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set, is_eager=True,
                     help="No progress and no result table; errors only."),
        click.option("--debug", is_flag=True, expose_value=False, callback=_set, is_eager=True,
                     help="Show debug logs, and the traceback of an error."),
    )  # fmt: skip
    decorated: Callable[P, R] = guarded
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


@contextmanager
def _quiet_stdout(state: State) -> Iterator[None]:
    """Keeps standard output for :func:`emit`; everything else that is written there goes to standard error."""
    from edgekit.outputs import moved_descriptor

    state.stdout = real = sys.stdout
    real.flush()
    saved = None
    try:
        if real.fileno() == 1:
            saved = os.dup(1)
            os.dup2(2, 1)
            state.stdout = os.fdopen(os.dup(saved), "w", encoding=real.encoding, errors="backslashreplace")
    except (io.UnsupportedOperation, OSError):
        saved = None  # standard output is not a descriptor (a test's buffer), or it is closed
    sys.stdout = sys.stderr
    try:
        with nullcontext() if saved is None else moved_descriptor(1, saved):
            yield
        state.stdout.flush()
    finally:
        sys.stdout = real
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


@contextmanager
def _logging(state: State) -> Iterator[None]:
    """Lines of the logger ``edgekit`` to standard error: INFO and above, warnings only with -q, all with --debug.

    Everything is as it was when the command ends: a program may call commands, and has a logger of its own.
    """
    import logging
    import warnings

    class Visible(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return set_off(super().format(record))

    logger = logging.getLogger("edgekit")
    before = logger.level, logger.propagate
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Visible("%(message)s"))
    with warnings.catch_warnings():
        if not state.debug and not sys.warnoptions:
            warnings.simplefilter("ignore")  # warnings of libraries are for us to read, not for the user
        logger.setLevel(logging.DEBUG if state.debug else logging.WARNING if state.quiet else logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]


def emit(verb: str, result: Result, render: Render | None = None) -> None:
    """Gives ``result`` to the user: the JSON document where ``--json`` said, and the text of ``render`` unless ``-q``.

    With ``--json -`` the document alone goes to standard output; with ``--json PATH`` the text still does.
    """
    state, sink = _state(), _sink()
    if sink is not None:
        sink(result.document())
        return
    text = ""
    if state.json is not None:
        from edgekit.report.document import dumps, envelope

        text = dumps(envelope(verb, result.document()))
        if state.json == "-":
            state.stdout.write(text)
            state.stdout.flush()
            return
    try:
        if state.json is not None:
            _save(text, Path(state.json))
    finally:  # a document that cannot be written must not take the table with it
        if render is not None and not state.quiet:
            from edgekit.report.text import show

            show(render(result), state.stdout)
            state.stdout.flush()  # before other outputs, which may go to the same place


def _save(text: str, path: Path) -> None:
    from edgekit.outputs import publishing

    with publishing(path) as target:
        target.write_text(text, encoding="utf-8")


def data_option(*, required: bool = False) -> Decorator:
    """``--data DATA``, passed as ``data``."""
    text = (
        "Data set: digits, breast-cancer, cifar10, fsdd, sst2, etth1, images:DIR, audio:DIR, text:FILE.tsv, "
        "series:FILE.csv, table:FILE.csv, npz:FILE; @train or @test."
    )
    return click.option("--data", metavar="DATA", required=required, help=text)


def seed_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--seed N``, passed as ``seed``."""
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed.")(function)


def training_options(function: Callable[P, R]) -> Callable[P, R]:
    """What ``train`` and ``finetune`` share, as their functions take it: ``data``, ``epochs``, ``seed``, ``device``,
    ``out``; and ``lr`` and ``processes``, which :func:`training_overrides` puts together (None: the family's own)."""
    shared = (
        data_option(required=True),
        click.option("--epochs", type=click.IntRange(1),
                     help="Passes over the data; without it the family's own number, 10 for finetune."),
        seed_option,
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True,
                     help="Where to train."),
        click.option("--lr", type=click.FloatRange(min=0, min_open=True), metavar="RATE",
                     help="Peak learning rate; the family's own without it."),
        click.option("--processes", type=click.IntRange(1), metavar="N",
                     help="Data-parallel processes, one a GPU on cuda."),
        out_option("Checkpoint to write (.safetensors).", "OUT.safetensors"),
        output_options,
    )  # fmt: skip
    for option in reversed(shared):
        function = option(function)
    return function


def training_overrides(**given: float | None) -> dict[str, Any]:
    """The options of :func:`training_options` that were given, as ``train`` and ``finetune`` take them."""
    return {name: value for name, value in given.items() if value is not None}


def limit_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--limit N``, passed as ``limit``; None means all samples."""
    return click.option("--limit", type=click.IntRange(1), help="Use the first N samples only.")(function)


def device_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--on DEVICE``, passed as ``on``."""
    return click.option("--on", metavar="DEVICE", default="cpu", show_default=True,
                        help="cpu, python:/path/to/python, ssh://user@host, or a saved name.")(function)  # fmt: skip


def runtime_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--runtime NAME``, passed as ``runtime`` (None: the first runtime for the file's format)."""
    names = (
        "onnxruntime[:PROVIDER], litert[:cpu|:gpu|:npu], tflite-runtime, torch[:eager|:compile|:cudagraph], tensorflow."
    )
    return click.option("--runtime", metavar="NAME", help=names)(function)


def shape_option(help: str = "INPUT=1x576 or DIMENSION=576, for free axes.") -> Decorator:
    """``--shape``, may be repeated, passed as ``shape``."""
    return click.option("--shape", multiple=True, metavar="NAME=N[xN]", help=help)


def input_option(help: str = "One real sample (.npz, .npy, .jpg, .wav, .csv), besides the others.") -> Decorator:
    """``--input FILE``, passed as ``input``."""
    return click.option("--input", metavar="FILE", help=help)


def factory_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--factory``, passed as ``factory``."""
    return click.option("--factory", metavar="file.py:NAME",
                        help="What builds the network of a checkpoint of your own.")(function)  # fmt: skip


def threads_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--threads N``, passed as ``threads``."""
    return click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
                        help="Threads of the runtime.")(function)  # fmt: skip


def listed(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """``a,b`` and ``a`` given several times, in one tuple."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def thread_counts(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    """``1,2``: numbers from 1."""
    parts = listed(ctx, param, values)
    if not parts or not all(whole_number(part) for part in parts):
        raise click.BadParameter(f"{','.join(values)!r} is not N or N,N,… with numbers from 1")
    return tuple(int(part) for part in parts)


def optional_thread_counts(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[int, ...] | None:
    """Like :func:`thread_counts`; None where the option was not given."""
    return thread_counts(ctx, param, values) if values else None


def tolerance_option(function: Callable[P, R]) -> Callable[P, R]:
    """``--tolerance T``, passed as ``tolerance``; None means the default of the comparison."""
    return click.option("--tolerance", type=click.FloatRange(min=0), metavar="T",
                        help="Largest absolute difference that passes.")(function)  # fmt: skip


def out_option(help: str = "Where to write.", metavar: str = "OUT") -> Decorator:
    """``-o/--out``, required, passed as ``out``."""
    return click.option("-o", "--out", metavar=metavar, required=True, help=help)
