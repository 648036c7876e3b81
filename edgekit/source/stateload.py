"""``--weights FILE``: a state dict of the user's own into a network.

A ``.pt``, ``.pth`` or ``.ckpt`` file is a pickle. It goes through torch's restricted reader (``weights_only``: tensors
and plain containers, nothing else) in a process of its own, which hands the tensors back as safetensors.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import children
from edgekit.artifact import sha256_file
from edgekit.errors import ModelError, SourceError, WorkerTimeoutError
from edgekit.inputs import require_regular
from edgekit.leftovers import scratch_folder
from edgekit.source.weights import PRETRAINED
from edgekit.types import Network

if TYPE_CHECKING:
    import torch

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
SUFFIXES = (*PICKLES, ".safetensors")
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
"""Where training scripts put the state dict of the network; the first that is there."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""What DataParallel, torch.compile and Lightning put in front of every name; tried one after the other."""
SECONDS = 600.0
_COUNTER = ".num_batches_tracked"
"""Of a batch norm: files of old versions of torch lack it, and nothing is computed from it in eval mode."""
_SHOWN = 4
log = logging.getLogger("edgekit")
_READ = "import sys; from edgekit.source.stateload import convert; sys.exit(convert(*sys.argv[1:]))"


def with_weights(network: Network, path: str | Path) -> Network:
    """``network`` with the tensors of the file ``path``; its card says where they are from.

    Raises:
        ModelError: the file cannot be read, or holds no state dict.
        WorkerTimeoutError: reading it took too long.
        SourceError: its names or shapes are not those of the network; the message lists both.
    """
    from edgekit.models.checkpoint import weights_sha256

    file = Path(path)
    state = read_state(file)
    module = network.module
    while getattr(module, "is_adapter", False):
        module = module.module  # type: ignore[assignment]
    module.load_state_dict(_fitting(state, module.state_dict(), file))
    said = {"weights": PRETRAINED, "weights_file": file.name, "weights_sha256": sha256_file(file)}
    config = {**network.card.config, **said}
    card = replace(network.card, config=config, source_sha256=weights_sha256(network.module.state_dict()))
    return replace(network, card=card)


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor of a safetensors file, or of a pickle that a process of its own has read.

    Raises:
        ModelError: missing, of another kind, damaged, or more than tensors.
    """
    from edgekit.models.checkpoint import read_checkpoint

    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(f"{file} is not a file of weights; --weights takes {', '.join(SUFFIXES)}")
    require_regular(file, ModelError, "a file of weights", "MODEL_BYTES")
    if suffix == ".safetensors":
        return read_checkpoint(file)[0]
    with scratch_folder() as folder:
        made = folder / "state.safetensors"
        command = [sys.executable, "-P", "-c", _READ, str(file.resolve()), str(made)]  # -P: not from the working folder
        try:
            ended = children.run(command, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise WorkerTimeoutError(f"reading {file} took longer than {SECONDS:g} s and was ended") from error
        if ended.returncode == 0:
            return read_checkpoint(made)[0]
        lines = ended.stderr.strip().splitlines() or [f"the process that reads it ended with {ended.returncode}"]
    raise ModelError(f"{file} cannot be read as weights: {lines[-1]}")


def convert(source: str, target: str) -> str | None:
    """Writes the state dict in the pickle ``source`` as safetensors; gives what is wrong, or None.

    Runs in the child."""
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        text = " ".join(str(error).split())
        named = re.search(r"(?:Unsupported class|GLOBAL) ([\w.]+)", text)
        if named is not None:
            return (
                f"it holds more than tensors and plain values ({named[1]}), and opening that would run code; where you "
                "trust it, write the tensors alone: torch.save(model.state_dict(), 'weights.pt')"
            )
        return f"torch.save did not write it, or it is cut short ({type(error).__name__})"
    state = _state_in(loaded)
    if not state:
        there = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, dict) else type(loaded).__name__
        return f"there is no state dict in it (a dict of names and tensors); it holds: {there}"
    save_file({name: value.detach().contiguous().clone() for name, value in state.items()}, target)
    return None


def _state_in(loaded: Any) -> dict[str, torch.Tensor]:
    """The state dict in what was loaded; empty where it holds no such dict."""
    import torch

    if not isinstance(loaded, Mapping):
        return {}
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if tensors and len(tensors) == len(loaded):
        return tensors
    for key in KEYS:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            return {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    return tensors


def _fitting(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], file: Path) -> dict[str, Any]:
    """``state`` under the names of the network, without a prefix that all of them share.

    Raises:
        SourceError: names are missing or left over, or shapes differ.
    """
    tried = [dict(state)]
    beside: dict[int, list[str]] = {}
    for _ in range(len(PREFIXES)):
        last = tried[-1]
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in last)), None)
        if prefix is None:
            break
        tried.append({name.removeprefix(prefix): value for name, value in last.items()})
        beside[id(tried[-1])] = [name for name in last if not name.startswith(prefix)]
    chosen = max(tried, key=lambda one: len(one.keys() & wanted.keys()))
    counters = {n: v for n, v in wanted.items() if n.endswith(_COUNTER) and n not in chosen}
    others = [name for name in beside.get(id(chosen), ()) if name not in wanted]
    if others:  # what a Lightning module holds besides: a loss, metrics
        log.warning("%s: left out, since they are not of the network: %s", file, _some(others))
    chosen = {name: value for name, value in chosen.items() if name not in others} | counters
    missing = [name for name in wanted if name not in chosen]
    surplus = [name for name in chosen if name not in wanted]
    other = [
        f"{name} is {_size(chosen[name])}, the network has {_size(wanted[name])}"
        for name in wanted
        if name in chosen and chosen[name].shape != wanted[name].shape
    ]
    if missing or surplus or other:
        said = []
        if missing:
            said.append(f"{len(missing)} of the network's {len(wanted)} tensors are not in it: {_some(missing)}")
        if surplus:
            said.append(f"{len(surplus)} of its {len(chosen)} tensors are not in the network: {_some(surplus)}")
        if other:
            said.append(f"{len(other)} have another shape: {_some(other)}")
        raise SourceError(f"the weights in {file} do not fit the network: {'; '.join(said)}")
    return chosen


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
