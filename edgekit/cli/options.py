"""What every command has (``--json``, ``-q``, ``--debug``; some have ``--html``), and :func:`emit`, through which every
result leaves.

Result tables and ``--json -`` go to standard output. While a verb runs, anything else that writes there (a library's
``print``, C++ code that writes to descriptor 1) is sent to standard error: a document on standard output is alone.
Progress and notes go through ``logging.getLogger("edgekit")`` to standard error.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar

import click

from edgekit.cli.progress import bars
from edgekit.errors import DeviceError, EdgekitError
from edgekit.escapes import set_off
from edgekit.progress import task
from edgekit.report.wrap import fitted

if TYPE_CHECKING:
    from edgekit.results.base import Result
    from edgekit.results.checks import Check

P = ParamSpec("P")
R = TypeVar("R")


Render = Callable[[Any], Any]
"""Result -> what ``rich`` can print: a string, a table, or a group of them (see :mod:`edgekit.report.text`)."""


@dataclass
class State:
    """What ``--json``, ``--html``, ``--junit``, ``--log``, ``-q`` and ``--debug`` said, the command's own options and
    those of them that are files to write, what its result's gates were asked, the standard output that results are
    written to, the words of the command line, and the number of the signal that ended the command, if one did."""

    json: str | None = None
    html: str | None = None
    log: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    junit: str | None = None
    checks: tuple[Check, ...] = ()
    quiet: bool = False
    debug: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    arguments: tuple[str, ...] = ()
    signal: int = 0


def _state() -> State:
    return click.get_current_context().ensure_object(State)


def json_path() -> str | None:
    """The regular file that ``--json`` names; None without one, for standard output, pipes and devices."""
    from edgekit.outputs import is_stream

    path = _state().json
    return None if path is None or path == "-" or is_stream(path) else path


def _set(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is None or value is False:  # a flag that was given before the verb holds
        return value
    if param.name in ("html", "junit") and value == "-":
        raise click.BadParameter("'-' is not a file; name one, or /dev/stdout")
    if param.name == "json" and value != "-":
        value = _checked_target(value)
    if param.name == "html":
        _check_page(value)
    if param.name == "junit":
        _checked_target(value)
    if param.name == "log":
        from edgekit.report.tracking import check_tracker

        check_tracker(value)
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


def _check_page(path: str) -> None:
    """Refuses, before the work, a page that could not be written or made."""
    from edgekit.outputs import check_output
    from edgekit.report.page.html import check_packages

    check_output(path)
    check_packages()


def output_options(function: Callable[P, R], *, page: bool = False, log: bool = False) -> Callable[P, R]:
    """``--json PATH``, ``-q/--quiet`` and ``--debug``, with ``page`` also ``--html FILE``, with ``log`` also ``--log``;
    passes no argument on: :func:`emit` knows them."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        from edgekit.leftovers import sweep

        sweep()  # what commands that were killed have left
        with _logging(_state()), _quiet_stdout(_state()), bars(_state().quiet):
            return function(*args, **kwargs)

    html = click.option("--html", metavar="FILE", expose_value=False, callback=_set, is_eager=True,
                        help="Write the result as one page that needs nothing else (edgekit[report]).")  # fmt: skip
    tracker = click.option("--log", type=click.Choice(["mlflow"]), expose_value=False, callback=_set, is_eager=True,
                           help="Write options, figures and files of the result as a run of MLflow, too "
                           "(edgekit[mlflow]).")  # fmt: skip
    options = (
        *([tracker] if log else []),
        *([html] if page else []),
        click.option("--json", metavar="PATH", expose_value=False, callback=_set, is_eager=True,
                     help="Write the result as a JSON document; - for standard output."),
        click.option("--junit", metavar="FILE.xml", expose_value=False, callback=_set, is_eager=True,
                     help="Write what the gates said as JUnit's XML."),
    )  # fmt: skip
    decorated: Callable[P, R] = logging_options(guarded)
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def logging_options(function: Callable[P, R]) -> Callable[P, R]:
    """``-q/--quiet`` and ``--debug``, before the verb or after it."""
    debug = click.option("--debug", is_flag=True, expose_value=False, callback=_set, is_eager=True,
                         help="Show debug logs, and the traceback of an error.")  # fmt: skip
    quiet = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set, is_eager=True,
                         help="No progress and no result table; errors only.")  # fmt: skip
    return quiet(debug(function))


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
    import warnings

    class Visible(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return fitted(set_off(super().format(record)), sys.stderr)

    class Above(logging.StreamHandler[TextIO]):
        """Writes to what standard error is at the time, so that lines stand above the bars."""

        def __init__(self) -> None:
            logging.Handler.__init__(self)

        @property
        def stream(self) -> TextIO:  # type: ignore[override]  # a plain attribute there
            return sys.stderr

    logger = logging.getLogger("edgekit")
    before = logger.level, logger.propagate
    handler = Above()
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

    Raises:
        EdgekitError: what the command ends with where a gate of the result says no, once it has been handed over.
        DeviceError: it could not be logged where ``--log`` says; it has been handed over all the same.
    """
    _state().checks = result.checks()
    _deliver(verb, result, render)
    unlogged = _log(verb, result)
    try:
        result.conclude()
    except EdgekitError:
        if unlogged is not None:
            logging.getLogger("edgekit").error("%s", unlogged)
        raise
    if unlogged is not None:
        raise unlogged


def _log(verb: str, result: Result) -> EdgekitError | None:
    """Does what ``--log`` says; gives the error where that fails, since the result is there and stays."""
    state = _state()
    if state.log is None:
        return None
    from edgekit.report.tracking import log_to_mlflow
    from edgekit.results.base import to_json

    document = to_json(_document(verb, result))
    try:
        with task("logging to MLflow"):
            run = log_to_mlflow(verb, document, state.parameters, state.outputs)
    except DeviceError as error:
        return error
    logging.getLogger("edgekit").info("logged to MLflow as run %s", run)
    return None


def _document(verb: str, result: Result) -> dict[str, Any]:
    from edgekit.report.document import envelope

    return envelope(verb, result.document(), ("edgekit", *_state().arguments))


def _deliver(verb: str, result: Result, render: Render | None) -> None:
    state = _state()
    document: dict[str, Any] = {}
    if state.json is not None or state.html is not None:
        document = _document(verb, result)
    try:
        if state.json is not None:
            _write_json(document, state)
        if state.html is not None:
            _save(_page(document), Path(state.html))
    finally:  # a document that cannot be written must not take the table with it
        if render is not None and not state.quiet and state.json != "-":
            from edgekit.report.text import show

            show(render(result), state.stdout)
            state.stdout.flush()  # before other outputs, which may go to the same place


def _write_json(document: Mapping[str, Any], state: State) -> None:
    from edgekit.report.document import dumps

    text = dumps(document)
    if state.json is None or state.json == "-":
        state.stdout.write(text)
        state.stdout.flush()
    else:
        _save(text, Path(state.json))


def _page(document: Mapping[str, Any]) -> str:
    from edgekit.report.page import page
    from edgekit.results.base import to_json
    from edgekit.results.saved import from_json

    return page([from_json(to_json(document), "this run")])


def _save(text: str, path: Path) -> None:
    from edgekit.outputs import publishing

    with publishing(path) as target:
        target.write_text(text, encoding="utf-8")
