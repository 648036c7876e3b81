"""The state of an unfinished training run, as safetensors, so that a killed run goes on where it was."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgekit.outputs import publishing

log = logging.getLogger("edgekit")


class RunState:
    """Weights, averaged weights, optimizer and best weights of a run, saved after each epoch.

    ``identity`` is what makes a run the same run: a file of another run is not used, and that is said.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.best_score = self.kept_score = float("-inf")

    def remember(self, epoch: int, score: float, module: nn.Module) -> None:
        """Keeps a copy of the weights of ``epoch``, the best so far or as good as it."""
        self.best = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
        self.best_epoch, self.kept_score = epoch, score
        self.best_score = max(score, self.best_score)

    def save(self, epochs_done: int, module: nn.Module, average: nn.Module, optimizer: Any) -> None:
        """Writes the state after ``epochs_done`` epochs, atomically."""
        if self.path is None:
            return
        tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        slots = optimizer.state_dict()["state"]
        tensors |= {
            f"optimizer.{index}.{key}": torch.as_tensor(value)
            for index, slot in slots.items()
            for key, value in slot.items()
            if value is not None
        }
        note = {
            "identity": self.identity,
            "epochs_done": epochs_done,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "kept_score": self.kept_score,
        }
        with publishing(self.path) as temporary:
            copies = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
            temporary.write_bytes(save(copies, metadata={"edgekit.run": json.dumps(note)}))

    def load(self, module: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Takes up the saved state, if it is of this run; gives the number of epochs that are done."""
        if self.path is None or not self.path.is_file():
            return 0
        try:
            with safe_open(self.path, framework="pt") as opened:
                note = json.loads((opened.metadata() or {}).get("edgekit.run", "{}"))
                tensors = {name: opened.get_tensor(name) for name in list(opened.keys())}
        except (SafetensorError, OSError, ValueError) as error:
            log.info("%s cannot be read (%s); training starts from the beginning", self.path, error)
            return 0
        if note.get("identity") != self.identity:
            log.info("%s is of a run with other settings; training starts from the beginning", self.path)
            return 0

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        module.load_state_dict(part("module."))
        average.load_state_dict(part("average."))
        self.best = part("best.")
        self.best_epoch = int(note["best_epoch"])
        self.best_score, self.kept_score = float(note["best_score"]), float(note["kept_score"])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, _, key = name.partition(".")
            slots.setdefault(int(index), {})[key] = value
        current = copy.deepcopy(optimizer.state_dict())
        optimizer.load_state_dict({"state": slots, "param_groups": current["param_groups"]})
        done = int(note["epochs_done"])
        log.info("resuming after epoch %d, from %s", done, self.path)
        return done

    def remove(self) -> None:
        """The run is finished: its state is no longer needed."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
