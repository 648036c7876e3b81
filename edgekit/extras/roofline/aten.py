"""Operators of a ``.pt2`` file with their shapes: its graph is gone through once."""

from __future__ import annotations

from typing import Any

from edgekit.extras.roofline.work import Call
from edgekit.graph.macs import Tensor
from edgekit.runtime import Runner
from edgekit.runtime.torch import TorchRunner
from edgekit.types import Feed


def calls(runner: Runner, feed: Feed) -> list[Call]:
    """See :data:`edgekit.extras.roofline.COUNTERS`."""
    import torch
    from torch.fx import Interpreter, Node

    assert isinstance(runner, TorchRunner)
    made: list[Call] = []

    class Counting(Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and not str(n.target).startswith("<built-in"):
                inputs = _tensors(self.map_nodes_to_values(n.args, n), self._weights(n))
                made.append(Call(str(n.target).removesuffix(".default"), inputs, _tensors(result, set())))
            return result

        def _weights(self, n: Node) -> set[int]:
            """Addresses of what the node reads out of the module."""
            read = [node for node in n.all_input_nodes if node.op == "get_attr"]
            return {self.env[node].data_ptr() for node in read if isinstance(self.env.get(node), torch.Tensor)}

    arguments = [torch.from_numpy(array.copy()) for _, array in sorted(runner.bound(feed), key=lambda p: int(p[0].key))]
    with torch.inference_mode():
        Counting(runner.graph_module, garbage_collect_values=False).run(*arguments)
    return made


def _tensors(values: Any, weights: set[int]) -> tuple[Tensor, ...]:
    import torch

    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return tuple(Tensor(tuple(t.shape), t.element_size(), t.data_ptr() in weights) for t in leaves)
