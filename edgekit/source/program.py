"""``model.pt2``: a program written by ``torch.export.save``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from edgekit.artifact import read_card, sha256_file
from edgekit.errors import LimitError, SourceError
from edgekit.limits import check
from edgekit.source.base import Source
from edgekit.types import Array, Card, Dim, Feed, Network, Signature, Task, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

log = logging.getLogger("edgekit")
WHILE_LOOP: Final = "while_loop"
_BY_FACTORY: Final = "name the network as file.py:factory"


class Program(Source):
    form: ClassVar[str] = "a .pt2 file"

    def claims(self, text: str) -> bool:
        return Path(text).suffix.lower() == ".pt2"

    def resolve(self, text: str) -> Network:
        return _from_program(Path(text))

    def rebuild(self, text: str, config: Mapping[str, Any]) -> torch.nn.Module:
        raise SourceError(f"a captured program has no builder; {_BY_FACTORY}")


def _from_program(path: Path) -> Network:
    """A program written by torch.export.save; names and contract come from its card where it has one."""
    import torch

    from edgekit.adapter import adapt
    from edgekit.models.checkpoint import weights_sha256
    from edgekit.runtime.pt2 import load_program

    card = read_card(path)
    program = load_program(path)
    tensors = _inputs(program, path)
    shown = list(tensors)
    names = [spec.name for spec in card.signature.inputs] if card else shown
    if len(names) != len(shown):
        raise SourceError(f"{path}: its card names {len(names)} inputs, its program has {len(shown)}; export it again")
    arrays = _examples(dict(zip(names, tensors.values(), strict=True)), card, path)
    args, kwargs = _arguments(program, dict(zip(shown, map(torch.from_numpy, arrays.values()), strict=True)))
    captured = _still(program.module())
    _check_sizes(captured, args, kwargs, path)
    _check_loops(program, path, dict(zip(names, arrays.values(), strict=True)))
    try:
        module, examples, signature = adapt(captured, args, kwargs, names)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    if card is not None:
        return Network(module, examples, replace(card, selftest=None))
    config = {"factory": str(path), "sha256": sha256_file(path)}
    digest = weights_sha256(module.state_dict())
    signature = Signature(_dynamic(program, shown, signature.inputs), signature.outputs)
    return Network(module, examples, Card(path.stem, "custom", Task(), signature, config=config, source_sha256=digest))


def _inputs(program: ExportedProgram, path: Path) -> dict[str, Any]:
    """The placeholder of each input that is a tensor, by the name it has in the program."""
    from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument

    nodes = {node.name: node for node in program.graph.nodes}
    found = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and not isinstance(spec.arg, ConstantArgument):
            if not isinstance(spec.arg, TensorArgument):
                raise SourceError(f"{path}: its input {spec.arg.name!r} is not a tensor; {_BY_FACTORY}")
            found[spec.arg.name] = nodes[spec.arg.name]
    return found


def _examples(nodes: Mapping[str, Any], card: Card | None, path: Path) -> dict[str, Array]:
    """Example inputs, since those of the file are a pickle: seeded random values as the card's contract describes them.

    Integers that no spec describes count up to the rows of the table they are looked up in, and are 1 without one.
    """
    from edgekit.data.seeded import seeded_feed

    specs = []
    for name, node in nodes.items():
        value = node.meta["val"]
        shape = tuple(size if isinstance(size, int) else size.node.hint or 1 for size in value.shape)
        check("INPUT_BYTES", math.prod(shape) * value.dtype.itemsize, f"{path}: {name}")
        dtype = str(value.dtype).removeprefix("torch.")
        if not hasattr(np, dtype):
            raise SourceError(f"{path}: its input {name!r} is {dtype}, which numpy does not have; {_BY_FACTORY}")
        specs.append(TensorSpec(name, dtype, shape))
    contract = card.contract if card is not None else {}
    own = card.signature.inputs if card is not None else specs
    dims = {str(dim): int(size) for mine, spec in zip(own, specs, strict=True) for dim, size in _pairs(mine, spec)}
    feed = dict(seeded_feed(Signature(tuple(specs), ()), contract, 0, dims=dims))
    for name, array in feed.items():
        rule = contract.get(name)
        if array.dtype.kind in "iu" and (rule is None or (rule.kind != "text" and "most" not in rule.params)):
            feed[name] = _indices(nodes[name], array)
    return feed


def _pairs(mine: TensorSpec, spec: TensorSpec) -> list[tuple[Dim, Dim]]:
    return [(dim, size) for dim, size in zip(mine.shape, spec.shape, strict=False) if isinstance(dim, str)]


def _indices(node: Any, like: Array) -> Array:
    import torch

    tables = [user.args[0] for user in node.users if user.target is torch.ops.aten.embedding.default]
    rows = min((table.meta["val"].shape[0] for table in tables), default=0)
    if not rows or not like.size:
        return np.ones_like(like)
    counted = np.arange(like.size) % rows
    counted[0] = rows - 1
    return counted.reshape(like.shape).astype(like.dtype)


def _arguments(program: ExportedProgram, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments as the program takes them, its constants among them."""
    import torch
    from torch.export.graph_signature import ConstantArgument, InputKind

    given = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    leaves = [arg.value if isinstance(arg, ConstantArgument) else tensors[arg.name] for arg in given]
    args, kwargs = torch.utils._pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return tuple(args), dict(kwargs)


def _check_sizes(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: Path) -> None:
    """Runs the program on sizes alone, before it runs in this process: a short one can ask for any amount of memory.

    Where sizes hang on values, what comes after them is not known.

    Raises:
        LimitError: one of its values is larger than is allowed.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            results = func(*args, **(kwargs or {}))
            for one in torch.utils._pytree.tree_leaves(results):
                if isinstance(one, torch.Tensor):
                    check("VALUE_BYTES", one.numel() * one.element_size(), f"{path}: {func}")
            return results

    with FakeTensorMode(allow_non_fake_inputs=True) as fake, Sizes(), torch.no_grad():  # type: ignore[no-untyped-call]
        given = torch.utils._pytree.tree_map_only(torch.Tensor, fake.from_tensor, (args, kwargs))
        try:
            module(*given[0], **given[1])
        except LimitError:
            raise
        except Exception as stop:  # sizes that hang on values; or a fault, which the run itself will show
            log.debug("%s: the sizes of its values are known up to %s", path, stop)


def _check_loops(program: ExportedProgram, path: Path, feed: Feed) -> None:
    """Runs a program that loops in a worker, before it runs in this process, where nothing could end it.

    Raises:
        WorkerTimeoutError: it has not ended within the limit ``ANSWER_SECONDS``.
    """
    from edgekit.devices import open_runner

    graphs = (module.graph for module in program.graph_module.modules() if hasattr(module, "graph"))
    if any(str(node.target) == WHILE_LOOP for graph in graphs for node in graph.nodes):
        with open_runner(path) as runner:
            runner.run(feed)


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
