"""``edgekit package``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.package import PackageOptions


@verb_command(PackageOptions)
def command(**options: Any) -> None:
    """Makes what an app loads: the file, its preprocessing as code, a self-test.

    The folder holds the file, its labels, its preprocessing as code in the target's language, a program that runs the
    card's self-test, and a README.
    """
    from edgekit.pipeline.package import package
    from edgekit.report.package import render_package

    emit("package", package(**options), render=render_package)
