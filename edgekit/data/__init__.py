"""Readers: what the user names (``cifar10``, ``images:DIR``) becomes numpy arrays and model-ready feeds."""

from edgekit.data.dataset import Dataset, open_data, stratified
from edgekit.data.preprocess import batches, feeds, sample_feed
from edgekit.data.seeded import extreme_feed, seeded_feed, zeros_feed

__all__ = [
    "Dataset",
    "batches",
    "extreme_feed",
    "feeds",
    "open_data",
    "sample_feed",
    "seeded_feed",
    "stratified",
    "zeros_feed",
]
