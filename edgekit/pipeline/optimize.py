"""``optimize``: see :mod:`edgekit.pipeline.search`."""

from edgekit.pipeline.search.run import optimize as optimize
