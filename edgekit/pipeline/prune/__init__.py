"""``edgekit prune``: what makes no sense (checks), one pruning with its fine-tuning (trial), how much (search),
the result."""

from edgekit.pipeline.prune.run import prune as prune
from edgekit.results.train import PruneResult as PruneResult
