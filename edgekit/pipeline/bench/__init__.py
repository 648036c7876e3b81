"""``edgekit bench``: checks of its options, its cells (plan, cell), timing them (run), its files, the result."""

from edgekit.pipeline.bench.result import BenchResult as BenchResult
from edgekit.pipeline.bench.run import bench as bench
