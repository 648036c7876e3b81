"""Operators of TFLite that a loop on integers may have: which scale their results have, and the version of each."""

from __future__ import annotations

FINE = "int16"
"""What states and sums of a loop are held in."""
FIXED = ("LOGISTIC", "TANH")
"""Operators whose results have the scale that their kernels write."""
SUMS = ("ADD", "SUB", "MUL", "RELU")
CARRIED = {"SPLIT": 1, "SPLIT_V": 0, "GATHER": 0, "RESHAPE": 0, "SLICE": 0}
"""Operators whose results have the scale of one of their inputs -> which."""
UPDATE, PRODUCT = "DYNAMIC_UPDATE_SLICE", "FULLY_CONNECTED"
KINDS = frozenset((*FIXED, *SUMS, *CARRIED, UPDATE, PRODUCT))
VERSIONS = {
    ("ADD", FINE): 3, ("SUB", FINE): 5, ("MUL", FINE): 4, ("RELU", FINE): 3, ("LOGISTIC", FINE): 3, ("TANH", FINE): 3,
    ("SPLIT", FINE): 4, ("SPLIT_V", FINE): 2, ("SLICE", FINE): 4, ("SPLIT", "int8"): 2, ("SPLIT_V", "int8"): 2,
    ("SLICE", "int8"): 2, ("GATHER", "int8"): 2, ("FULLY_CONNECTED", FINE): 7,
}  # fmt: skip
"""By operator and the type of its result: the version that its integer kernel has."""
