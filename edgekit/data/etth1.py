"""ETTh1: two years of a power transformer, hourly, seven columns (Zhou et al. 2021, Informer; CC BY-ND 4.0).

The usual split is by months of 30 days: 12 train, 4 validate, 4 test; what comes after is not used. From 96 hours of
the oil temperature (``OT``) its next 24 are forecast. The six loads are in the samples, but a network for them reads
the temperature alone: a linear model that reads them too is worse on the validation months (0.055 against 0.052).
"""

from __future__ import annotations

from edgekit.data.cache import Download, fetch, find_local
from edgekit.data.dataset import Dataset, Reader
from edgekit.data.series import Forecast, windows
from edgekit.data.timetable import read_timetable
from edgekit.errors import DataError

DOWNLOAD = Download(
    "ETTh1.csv",
    "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
    "sha256:f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
)
ROWS = 17_420
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
MONTH = 30 * 24
CUTS = {"train": (0, 12 * MONTH), "val": (12 * MONTH, 16 * MONTH), "test": (16 * MONTH, 20 * MONTH)}
FORECAST = Forecast("OT", 96, 24, 24, inputs=("OT",))


def open_etth1(name: str, split: str) -> Dataset:
    """Reader of ``etth1``.

    Raises:
        DataError: the data are not there and cannot be downloaded, or are not what they should be.
    """
    path = find_local("ETTh1.csv.gz", "ETTh1.csv") or fetch(DOWNLOAD)
    table = read_timetable(path)
    if table.columns != COLUMNS or len(table.rows) != ROWS:
        raise DataError(
            f"{path} has {len(table.rows):,} rows of {', '.join(table.columns)}; {ROWS:,} of {', '.join(COLUMNS)} were "
            "expected; copy it again, or delete it to download it"
        )
    return windows(name, split, table, CUTS, FORECAST)


ETTH1 = Reader(open_etth1, ("train", "val", "test", "all"), ("test",))
