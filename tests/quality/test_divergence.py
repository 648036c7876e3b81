"""The first layer that differs: found among fused, transposed and padded tensors, and not found in equal files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.adapter import adapt
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.quality.divergence import describe, first_divergence
from edgekit.quality.trace import Node, Trace, trace_module
from edgekit.types import Array

RNG = np.random.default_rng(0)


def array(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


A, B, C = array(1, 4, 6, 6), array(1, 8, 6, 6), array(1, 8)
REFERENCE = [A, B, C]


def chain(**values: Array) -> Trace:
    """conv1 -> pad -> conv2 -> mean, with the given values."""
    nodes = (
        Node("CONV_2D", ("in",), ("a",), ("stem", "stem.conv1")),
        Node("PAD", ("a",), ("p",), ("body.conv2",)),
        Node("CONV_2D", ("p",), ("b",), ("body.conv2",)),
        Node("MEAN", ("b",), ("c",), ()),
    )
    good = {"a": A.transpose(0, 2, 3, 1), "p": array(1, 8, 8, 4), "b": B.transpose(0, 2, 3, 1), "c": C}
    return Trace(nodes, {**good, **values})


def test_nothing_is_found_where_all_is_well() -> None:
    assert first_divergence(REFERENCE, chain()) is None


def test_the_first_of_several_wrong_values_is_named() -> None:
    found = first_divergence(REFERENCE, chain(a=A.transpose(0, 2, 3, 1) * 1.1, b=array(1, 6, 6, 8), c=array(1, 8)))
    assert describe(found) == "stem.conv1 (CONV_2D)"


def test_an_operator_that_only_moves_values_is_not_blamed() -> None:
    found = first_divergence(REFERENCE, chain(b=array(1, 6, 6, 8), c=array(1, 8)))
    assert describe(found) == "body.conv2 (CONV_2D)"


@pytest.mark.parametrize("kind", ops.names(None, Family.RESHAPE))
def test_no_change_of_shape_is_blamed(kind: str) -> None:
    nodes = (Node(kind, ("in",), ("moved",), ()), Node("Gemm", ("moved",), ("c",), ("head",)))
    found = first_divergence([C], Trace(nodes, {"moved": array(1, 8), "c": array(1, 8)}))
    assert describe(found) == "head (Gemm)"


def test_a_value_that_is_not_finite_is_never_met() -> None:
    found = first_divergence([*REFERENCE, np.full((1, 8), np.nan, np.float32)], chain(c=np.full((1, 8), np.nan)))
    assert found is not None
    assert found.operator == "MEAN"
    assert describe(found) == "the operator MEAN that writes 'c'"


@pytest.mark.parametrize(("size", "named"), [(1e-5, False), (1e-2, True)])
def test_rounding_is_not_a_fault(size: float, named: bool) -> None:
    assert (first_divergence(REFERENCE, chain(c=C * (1 + size))) is not None) is named


def test_adapters_are_left_out_of_names() -> None:
    node = Node("Conv", ("x",), ("y",), ("module", "module.block", "module.block.conv"))
    assert describe(node, "module.") == "block.conv (Conv)"
    assert describe(None) is None


def test_a_module_is_traced_with_its_functional_operators() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.layer(x)) + 1

    module, examples, signature = adapt(Net(), (torch.ones(1, 3),), {})
    trace = trace_module(module, examples, signature)
    owners = {node.modules[0] for node in trace.nodes}
    assert owners == {"", "layer"}
    with torch.no_grad():
        wanted = module.layer(torch.ones(1, 3))
    values = list(trace.values.values())
    assert any(v.shape == (1, 2) and np.array_equal(v, wanted) for v in values)
    assert np.array_equal(values[-1], np.maximum(wanted.numpy(), 0) + 1)
