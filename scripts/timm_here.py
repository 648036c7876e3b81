"""timm for the tests and tables of this clone, beside a CPU build of torch.

The index of packages has torchvision for CUDA only; its Python part is all that timm wants, and imports once the two
operators are declared that its native part would bring. So both are installed without their dependencies into
``.venv-timm/`` (scripts/env.sh), away from ``.venv``, where such a torchvision would be taken for a working one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_kept: list[Any] = []
"""The declared operators live as long as this."""


def use_timm() -> bool:
    """Makes ``import timm`` work in this process; False where there is no timm."""
    if _kept or importlib.util.find_spec("timm") is not None:
        return True
    place = Path(os.environ.get("EDGEKIT_TIMM") or ROOT / ".venv-timm")
    if not (place / "timm").is_dir():
        return False
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    sys.path.append(str(place))
    return True
