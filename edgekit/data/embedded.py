"""Data sets that need no download: they come with scikit-learn."""

from __future__ import annotations

import numpy as np

from edgekit.data.dataset import Dataset, choose_split
from edgekit.errors import RuntimeMissingError


def _sklearn_datasets() -> object:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise RuntimeMissingError(
            "the embedded data sets come with scikit-learn, which is not installed: pip install 'edgekit[host]'"
        ) from error
    return sklearn.datasets


def open_digits(name: str, split: str) -> Dataset:
    """1,797 grey 8x8 images of handwritten digits (UCI optical recognition), bytes 0..255, ten classes.

    Source: sklearn.datasets.load_digits, whose pixels are 0..16 and are scaled by 255/16 here.
    """
    bunch = _sklearn_datasets().load_digits()  # type: ignore[attr-defined]
    images = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    whole = Dataset(name, "all", "image", {"image": images}, bunch.target.astype(np.int64), tuple(map(str, range(10))))
    return choose_split(whole, split, split)


def open_breast_cancer(name: str, split: str) -> Dataset:
    """569 rows of 30 real-valued columns (UCI breast cancer Wisconsin, diagnostic); classes malignant and benign."""
    bunch = _sklearn_datasets().load_breast_cancer()  # type: ignore[attr-defined]
    columns = tuple(str(c) for c in bunch.feature_names)
    whole = Dataset(
        name,
        "all",
        "table",
        {"table": bunch.data.astype(np.float32)},
        bunch.target.astype(np.int64),
        tuple(str(c) for c in bunch.target_names),
        columns,
    )
    return choose_split(whole, split, split)
