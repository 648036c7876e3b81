"""The command line: ``edgekit VERB …``. One module a verb; each parses, calls its pipeline verb and emits the result.

How a verb is written (``edgekit/cli/export.py`` for ``edgekit export``)::

    @click.command()
    @click.argument("source")    # plain text: a missing file is the library's error (exit 3), not click's (2)
    @out_option()
    @output_options              # innermost: --json, -q, --debug; guards standard output
    def command(source: str, out: str) -> None:
        \"""Converts SOURCE, proves it, publishes it.\"""
        from edgekit.pipeline.export import export
        emit("export", export(source, out=out), render=text.export)

The function is called ``command``; its line in :data:`VERBS` repeats the first sentence of its docstring (a test keeps
the two equal), so that ``edgekit --help`` imports no verb. Heavy imports stand inside the function.
A gate that said no after its document was emitted raises :class:`edgekit.errors.GateError` (exit 1).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from edgekit.cli.verbs import VERBS

__all__ = ["VERBS", "main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the ``edgekit`` program."""
    from edgekit.cli.program import run, settle
    from edgekit.libraries import keep_in_the_cache

    keep_in_the_cache()
    code = run(sys.argv[1:] if args is None else args)
    sys.exit(settle(code))
