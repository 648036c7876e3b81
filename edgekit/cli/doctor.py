"""``edgekit doctor``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.manage import DoctorOptions


@verb_command(DoctorOptions)
def command(**options: Any) -> None:
    """Says what is installed, which backends work, and how to get the rest.

    Every runtime is tried with a tiny model in a worker. Exit code 0 when at least one works, 4 when none does or
    the device cannot be used.
    """
    from edgekit.pipeline.doctor import doctor
    from edgekit.report.verbs import render_doctor

    emit("doctor", doctor(**options), render=render_doctor)
