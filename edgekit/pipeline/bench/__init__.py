"""``edgekit bench``: what is asked (options), which cells that makes (plan, cell), timing them (run), the result."""

from edgekit.pipeline.bench.options import BenchOptions as BenchOptions
from edgekit.pipeline.bench.result import BenchResult as BenchResult
from edgekit.pipeline.bench.run import bench as bench
