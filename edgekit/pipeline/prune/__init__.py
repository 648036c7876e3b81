"""``edgekit prune``: what is asked (options), one pruning with its fine-tuning (trial), how much (search),
the result."""

from edgekit.pipeline.prune.options import PruneOptions as PruneOptions
from edgekit.pipeline.prune.run import prune as prune
from edgekit.results.train import PruneResult as PruneResult
