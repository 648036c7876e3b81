"""``edgekit export linear:16x3``: a layer of these sizes, with seeded weights."""

from __future__ import annotations

import re
from typing import ClassVar

from edgekit.errors import SourceError
from edgekit.source.assemble import assemble, seeded
from edgekit.source.base import Source
from edgekit.types import Network


class Linear(Source):
    """Importing this module imports no torch: edgekit imports it to see what a name could mean."""

    form: ClassVar[str] = "linear:INPUTSxOUTPUTS"
    prefixed: ClassVar[bool] = True
    inert: ClassVar[bool] = True

    def resolve(self, text: str) -> Network:
        sizes = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
        if sizes is None:
            raise SourceError(f"linear:{text}: give the numbers of inputs and outputs, such as linear:16x3")
        import torch

        with seeded():
            module = torch.nn.Linear(int(sizes[1]), int(sizes[2]))
        config = {"factory": f"linear:{text}"}
        return assemble(module, (torch.zeros(1, int(sizes[1])),), {}, "linear", config, f"linear:{text}")
