"""The lazy command group, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from edgekit.cli.options import State, logging_options
from edgekit.cli.verbs import EXAMPLES, GROUPS, VERBS
from edgekit.errors import EdgekitError, FactoryNeededError, interruption
from edgekit.escapes import set_off, visible
from edgekit.reading import why
from edgekit.report.wrap import fitted
from edgekit.version import __version__

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a program ended by SIGPIPE has: ``edgekit models | head -1`` is not an error of ours."""

PACKAGES = {
    "ai_edge_litert": "litert",
    "ai_edge_quantizer": "host",
    "jinja2": "report",
    "keras": "keras",
    "lightning_fabric": "torch",
    "litert_torch": "host",
    "matplotlib": "plot",
    "mlflow": "mlflow",
    "networkx": "host",
    "onnx": "host",
    "onnxruntime": "onnx",
    "onnxscript": "host",
    "onnxslim": "host",
    "optuna": "host",
    "PIL": "host",
    "pycocotools": "host",
    "ray": "ray",
    "safetensors": "torch",
    "sklearn": "host",
    "tensorflow": "tensorflow",
    "timm": "timm",
    "torch": "torch",
    "torch_pruning": "torch",
    "torchmetrics": "torch",
    "transformers": "hf",
    "vl_convert": "report",
    "yaml": "host",
}
"""Top-level module -> the extra of edgekit that brings it."""


class LazyGroup(click.Group):
    """A group that imports a verb only when it is called; its own help comes from :data:`edgekit.cli.verbs.VERBS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(VERBS[cmd_name][0]).command
        assert isinstance(command, click.Command), f"{VERBS[cmd_name][0]}.command is not a click command"
        command.name = cmd_name
        command.epilog = f"Example: {EXAMPLES[cmd_name]}"
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(VERBS)}"
            ctx.fail(f"no command is called {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, VERBS[name][1]) for name in verbs])


@click.command(
    cls=LazyGroup,
    name="edgekit",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 a gate said no, 2 wrong usage, 3 bad input, 4 a runtime or device failed, "
    "5 inconclusive, 130 interrupted, 143 ended by SIGTERM.",
)
@logging_options
@click.version_option(__version__, prog_name="edgekit", message="%(prog)s %(version)s")
def group() -> None:
    """PyTorch networks to ONNX and TensorFlow Lite: proved, compressed, and timed on the target."""


def run(args: Sequence[str]) -> int:
    """Runs one command line; returns its exit code. Never raises, but for what ``--debug`` shows."""
    if "_EDGEKIT_COMPLETE" in os.environ:  # click's shell completion wants its own main
        group.main(list(args), prog_name="edgekit")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell (>&-); a file opened later must not take its descriptor
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # lives as long as the program
    state = State(arguments=tuple(args))
    _leave_properly_when_terminated(state)
    start = time.monotonic()
    code, message = _ended(args, state)
    if state.junit is not None:
        code = _write_junit(state, code, message, time.monotonic() - start)
    return code


def _ended(args: Sequence[str], state: State) -> tuple[int, str]:
    """The exit code of a command line, and what was said of an error."""
    try:
        with group.make_context("edgekit", list(args), obj=state) as context:
            group.invoke(context)
        sys.stdout.flush()
        return 0, ""
    except click.exceptions.Exit as leaving:
        return leaving.exit_code, ""
    except BrokenPipeError:
        _discard(state.stdout, sys.stdout)
        return BROKEN_PIPE, ""
    except SystemExit as leaving:
        if state.signal:  # it came within a call of a library that leaves with a code of its own
            return 128 + state.signal, ""
        return leaving.code if isinstance(leaving.code, int) else 4, ""
    except BaseException as error:
        if state.signal:  # it came within an import, where a library made another error of it
            return 128 + state.signal, ""
        code, message = explain(error)
        if isinstance(error, FactoryNeededError):
            place = 1 + next(k for k, word in enumerate(args) if word in VERBS)  # -q and --debug may stand before it
            words = [*args[:place], error.option, error.factory, *args[place:]]
            message += f". The whole command: {shlex.join(['edgekit', *words])}"
        if state.debug and not isinstance(error, click.ClickException):
            import traceback

            say("".join(traceback.format_exception(error)).rstrip())
        say(message, usage=isinstance(error, click.ClickException))
        return code, message


def _write_junit(state: State, code: int, message: str, seconds: float) -> int:
    """Writes what ``--junit`` names, of a command that ended with an error of its own, too; gives the exit code."""
    from edgekit.outputs import publishing
    from edgekit.report.junit import junit
    from edgekit.results.checks import Check, failed

    verb = next((word for word in state.arguments if word in VERBS), "")
    checks = list(state.checks)
    if code and not failed(checks):
        checks.append(Check("ended well", message or f"it ended with exit code {code}", broken=code not in (1, 5)))
    elif not checks:
        checks.append(Check("ended well"))
    assert state.junit is not None
    try:
        with publishing(Path(state.junit)) as target:
            target.write_text(junit(f"edgekit {verb}", checks, seconds), encoding="utf-8")
    except (EdgekitError, OSError) as error:
        problem, said = explain(error)
        say(said)
        return code or problem
    return code


def _leave_properly_when_terminated(state: State) -> None:
    """SIGTERM ends the program like an error: half-written files are removed and workers are closed."""
    import signal
    import threading

    def leave(number: int, frame: object) -> None:
        state.signal = number
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def settle(code: int) -> int:
    """The exit code of a program that has done its work with ``code``: another where standard output cannot take what
    is left. Neither stream then has anything that the interpreter could not write at its end."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if code == 0:
            code, message = (BROKEN_PIPE, "") if isinstance(error, BrokenPipeError) else explain(error)
            say(message) if message else None
    return code


def _discard(*streams: TextIO) -> None:
    """Streams are flushed once more when the interpreter ends: gives them a place where that works."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def say(message: str, *, usage: bool = False) -> None:
    """One message on standard error, in which nothing speaks to the terminal; nothing when nobody listens there.

    ``usage``: its lines are click's and the user's own words.
    """
    try:
        click.echo(fitted(visible(message) if usage else set_off(message), sys.stderr), err=True)
    except OSError:
        return  # standard error is closed; the exit code still tells


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the one message for ``error``."""
    error = interruption(error) or error
    if isinstance(error, EdgekitError):
        return error.exit_code, f"edgekit: {error}"
    if isinstance(error, click.ClickException):
        return 2, usage_message(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED, f"edgekit: interrupted; {str(error) or 'nothing was published'}"
    if isinstance(error, MemoryError):
        return 4, "edgekit: out of memory; close other programs or use a smaller batch or --limit"
    if isinstance(error, ImportError):
        return explain_import(error)
    if isinstance(error, OSError):
        return explain_os(error)
    return internal(error)


_NUMBERS = re.compile(r"extra arguments? \([-+.0-9e ]+\)")
"""What click says of numbers that no option took."""


def usage_message(error: click.ClickException) -> str:
    """Click's message, and where the command's options are described."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "edgekit"
    message = error.format_message()
    hint = "; the values of one option are joined by commas: --mean 0.4,0.5,0.6" if _NUMBERS.search(message) else ""
    return f"edgekit: {message}{hint}\nSee '{path} --help'."


def internal(error: BaseException) -> tuple[int, str]:
    """The exit code and the message for an error that edgekit does not expect."""
    text = " ".join(str(error).split())
    detail = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    return 4, f"edgekit: internal error: {detail} (run with --debug for the traceback)"


def explain_import(error: ImportError) -> tuple[int, str]:
    """A package of an extra that is not there is the user's to install; anything else is ours to mend."""
    top = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and top in PACKAGES:
        extra = PACKAGES[top]
        return 4, f"edgekit: this needs the package {top!r}, which is not installed; pip install 'edgekit[{extra}]'"
    if os.strerror(errno.EMFILE) in str(error):  # a shared library of the package could not be opened
        return 4, f"edgekit: cannot load {top or 'a package'}: {why(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))}"
    return internal(error)


def explain_os(error: OSError) -> tuple[int, str]:
    """The exit code and the message for an error of the operating system."""
    place = f" {error.filename!r}" if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return 4, f"edgekit: cannot open{place}: {why(error)}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return 3, f"edgekit: cannot write{place}: {reason}; free some space or write elsewhere; nothing was published"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return 2, f"edgekit: cannot use{place}: {reason}; name a place you may read and write"
    if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
        return 3, f"edgekit: cannot read{place}: {reason}; check the path"
    return internal(error)
