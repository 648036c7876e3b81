"""``edgekit run``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.measure import RunOptions


@verb_command(RunOptions)
def command(**options: Any) -> None:
    """Runs one inference on real input: prints labels or writes arrays.

    INPUT is what the model was made for: an image, a .wav, a sentence or .txt, a .csv (one row of a table, the last
    rows of a series), or an .npz or .npy of model-ready arrays; each is one sample. A generator of
    images takes noise:N or noise:N@SEED, N samples of seeded noise (64 where nothing is given), and writes them side
    by side as one .png: the one -o names, else MODEL.png here. A detector says what it found and where, a segmenter
    which classes it sees and their shares of the pixels; both draw it into the picture with -o OUT.png.
    """
    from edgekit.pipeline.run import run
    from edgekit.report.verbs import render_run

    emit("run", run(**options), render=render_run)
