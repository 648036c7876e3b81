"""``edgekit prune``: what makes no sense (checks), one pruning with its fine-tuning (trial), how much (search),
the result."""

from edgekit.pipeline.prune.result import PruneResult as PruneResult
from edgekit.pipeline.prune.run import prune as prune
