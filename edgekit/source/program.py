"""``model.pt2``: a program written by ``torch.export.save``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.artifact import read_card, sha256_file
from edgekit.errors import SourceError
from edgekit.source.base import Source
from edgekit.types import Card, Dim, Network, Signature, Task, TensorSpec

if TYPE_CHECKING:
    import torch


class Program(Source):
    form: ClassVar[str] = "a .pt2 file"

    def claims(self, text: str) -> bool:
        return Path(text).suffix.lower() == ".pt2"

    def resolve(self, text: str) -> Network:
        return _from_program(Path(text))

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        raise SourceError("a captured program has no builder; name the network as file.py:factory")


def _from_program(path: Path) -> Network:
    """A program written by torch.export.save; names and contract come from its card where it has one."""
    import torch

    from edgekit.adapter import adapt
    from edgekit.models.checkpoint import weights_sha256
    from edgekit.runtime.pt2 import load_program

    card = read_card(path)
    program = load_program(path)
    shown = [str(item) for item in program.graph_signature.user_inputs]
    names = [spec.name for spec in card.signature.inputs] if card else shown
    args, kwargs = program.example_inputs or ((), {})
    if not args and not kwargs:
        values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
        args = tuple(torch.zeros([int(n) for n in values[item].shape], dtype=values[item].dtype) for item in shown)
    try:
        module, examples, signature = adapt(_still(program.module()), args, kwargs, names)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    if card is not None:
        return Network(module, examples, replace(card, selftest=None))
    config = {"factory": str(path), "sha256": sha256_file(path)}
    digest = weights_sha256(module.state_dict())
    signature = Signature(_dynamic(program, shown, signature.inputs), signature.outputs)
    return Network(module, examples, Card(path.stem, "custom", Task(), signature, config=config, source_sha256=digest))


def _still(module: Any) -> Any:
    """A program's module, whose ``eval`` and ``train`` raise: its mode was settled when it was captured."""
    module.training = False
    module.train = lambda mode=True: module
    module.eval = lambda: module
    return module


def _dynamic(program: Any, shown: list[str], specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """``specs`` with the program's dynamic sizes named: ``batch`` for a first axis, else ``INPUT_AXIS``."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names: dict[str, str] = {}
    result = []
    for item, spec in zip(shown, specs, strict=True):
        shape: list[Dim] = []
        for axis, (size, example) in enumerate(zip(values[item].shape, spec.shape, strict=True)):
            fallback = "batch" if axis == 0 else f"{spec.name}_{axis}"
            shape.append(example if isinstance(size, int) else names.setdefault(str(size), fallback))
        result.append(replace(spec, shape=tuple(shape)))
    return tuple(result)
