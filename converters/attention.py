"""Attention as torch computes it at inference: masks that hide a row altogether, and padding that is left out.

torch's ``scaled_dot_product_attention`` gives zeros for a query that may see no key at all (an empty text, a padded row
of a batch; its softmax is "safe", torch 2.5). The translations to ONNX and TFLite give the mean of the values, or NaN.
So where a mask comes from an input, such rows are unmasked before and set to zero afterwards. Masks that are constants
of the network stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_MASK = 3
"""Position of ``attn_mask`` among the operator's arguments."""


def guard_masks(program: ExportedProgram) -> ExportedProgram:
    """Every attention whose mask depends on an input of ``program``, rewritten in place."""
    fed = _fed(program)
    changed = False
    for node in list(program.graph.nodes):
        if node.op == "call_function" and node.target is _ATTENTION and _mask(node) in fed:
            _guard(program, node)
            changed = True
    if changed:
        program.graph.lint()
        program.graph_module.recompile()
    return program


def _fed(program: ExportedProgram) -> set[Node]:
    """The nodes whose values depend on an input of the network, not on its weights and constants alone."""
    inputs = {str(name) for name in program.graph_signature.user_inputs}
    fed: set[Node] = set()
    for node in program.graph.nodes:
        if (node.op == "placeholder" and node.name in inputs) or any(arg in fed for arg in node.all_input_nodes):
            fed.add(node)
    return fed


def _mask(node: Node) -> Any:
    return node.args[_MASK] if len(node.args) > _MASK else node.kwargs.get("attn_mask")


def _guard(program: ExportedProgram, node: Node) -> None:
    """mask (..., L or 1, S): live (..., L or 1, 1) tells the rows that see a key; the others are opened, and zeroed."""
    aten, mask, graph = torch.ops.aten, _mask(node), program.graph

    def call(operator: Any, *args: Any) -> Node:
        made: Node = graph.call_function(operator, args)
        made.meta = {**node.meta, "val": operator(*(a.meta["val"] if isinstance(a, Node) else a for a in args))}
        return made

    with graph.inserting_before(node):
        if mask.meta["val"].dtype == torch.bool:
            live = call(aten.any.dim, mask, -1, True)
            opened = call(aten.logical_or.default, mask, call(aten.logical_not.default, live))
        else:
            dead = call(aten.all.dim, call(aten.eq.Scalar, mask, float("-inf")), -1, True)
            live = call(aten.logical_not.default, dead)
            opened = call(aten.masked_fill.Scalar, mask, dead, 0.0)
        factor = call(aten.to.dtype, live, node.meta["val"].dtype)
    if len(node.args) > _MASK:
        node.update_arg(_MASK, opened)
    else:
        node.update_kwarg("attn_mask", opened)
    with graph.inserting_after(factor), graph.inserting_after(node):
        zeroed = call(aten.mul.Tensor, node, factor)
    node.replace_all_uses_with(zeroed, delete_user_cb=lambda user: user is not zeroed)
    program.graph_signature.replace_all_uses(node.name, zeroed.name)


@contextmanager
def as_nested(module: nn.Module) -> Iterator[None]:
    """Lets the ``TransformerEncoder``s of ``module`` compute what they do at inference, without nested tensors.

    Given a padding that stands at the ends only, torch runs the tokens before it alone, and gives zeros behind them
    (``enable_nested_tensor``); with any other it runs all of them. Captured is the latter: nested tensors are left out
    where torch.export looks on.
    """
    found = [one for one in module.modules() if isinstance(one, nn.TransformerEncoder) and _takes_nested(one)]
    for one in found:
        one.forward = partial(_zero_padding, one)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for one in found:
            del one.forward


def _takes_nested(module: nn.TransformerEncoder) -> bool:
    own = type(module).forward is nn.TransformerEncoder.forward
    return own and bool(module.use_nested_tensor) and "forward" not in vars(module)


def _zero_padding(
    encoder: nn.TransformerEncoder,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    """src (B, T, D), src_key_padding_mask (B, T): the encoder with zeros for the tokens that are padding."""
    plain = nn.TransformerEncoder.forward
    if src_key_padding_mask is None or mask is not None or src.dim() != 3:
        return plain(encoder, src, mask, src_key_padding_mask, is_causal)
    norm, encoder.norm = encoder.norm, None
    try:
        result = plain(encoder, src, mask, src_key_padding_mask, is_causal)
    finally:
        encoder.norm = norm
    hidden = src_key_padding_mask != 0  # as booleans, or as what is added
    seen_behind = (hidden[:, :-1] & hidden[:, 1:].logical_not()).any()
    zeroed = result.masked_fill((hidden & seen_behind.logical_not()).unsqueeze(-1), 0.0)
    return zeroed if norm is None else norm(zeroed)
