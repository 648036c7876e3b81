"""Any module as one that takes and gives tensors by position, with names: what the rest of edgekit works with.

A user's module may take keyword arguments, dicts and lists of tensors and return a dict, a named tuple or nested
results. :func:`adapt` finds the names, and puts a thin module in front only where the shape of the call needs it.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgekit.errors import SourceError
from edgekit.types import Array, Dim, Signature, TensorSpec

log = logging.getLogger("edgekit")


class Adapted(nn.Module):
    """Calls ``module`` with arguments rebuilt from flat tensors; gives its tensors back flat, in order.

    Args:
        module: the user's module.
        spec: pytree structure of ``(args, kwargs)``.
        leaves: the leaves of that structure; a tensor stands for an input, everything else is passed as it is.
        single: the module gives one tensor, which is returned as it is.
    """

    is_adapter = True

    def __init__(self, module: nn.Module, spec: Any, leaves: Sequence[Any], single: bool) -> None:
        super().__init__()
        self.module = module
        self._spec, self._single = spec, single
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def forward(self, *inputs: Tensor) -> Any:
        leaves = list(self._leaves)
        for place, value in zip(self._places, inputs, strict=True):
            leaves[place] = value
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        result = self.module(*args, **kwargs)
        if self._single:
            return result
        return tuple(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))


def adapt(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str] | None = None
) -> tuple[nn.Module, dict[str, Array], Signature]:
    """The module in eval mode with flat positional inputs, its example inputs by name, and its signature.

    The module is run once on the example inputs to learn its outputs. Input names are those of forward's parameters
    (``tokens``, ``state_0`` for the first item of a list, ``batch_mask`` for the item ``mask`` of a dict); outputs are
    named by dict key or field, else ``output`` or ``output_0`` and so on.

    Args:
        args, kwargs: example arguments: tensors or numpy arrays, nested in tuples, lists and dicts as forward wants.
        names: names of the inputs in flat order, where they are known already.

    Raises:
        SourceError: no tensor among inputs or outputs, an unknown dtype, the module raises on its example inputs, or is
            one that nothing can be made of (:func:`plain_module`).
    """
    module = plain_module(module)
    _check_names(kwargs)
    _say_mode(module)
    module.eval()
    given, keywords = pytree.tree_map(_tensor, (tuple(args), dict(kwargs)))
    paths, spec = pytree.tree_flatten_with_path((given, keywords))
    leaves = [leaf for _, leaf in paths]
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not tensors:
        raise SourceError(
            "the example inputs hold no tensor; give a tensor, a tuple of them, or a dict by argument name"
        )
    if names is None:
        parameters = _parameter_names(module, len(given))
        names = [_input_name(path, parameters) for path, leaf in paths if isinstance(leaf, Tensor)]
    names = _unique(names)
    kept = [tensor.detach().cpu().clone() for tensor in tensors]
    result = _run_once(module, given, keywords)  # which may change what it is given
    outputs = [(path, leaf) for path, leaf in pytree.tree_flatten_with_path(result)[0] if isinstance(leaf, Tensor)]
    if not outputs:
        raise SourceError(f"the module gave a {type(result).__name__} without a tensor; forward must return tensors")
    output_names = _unique([_output_name(path) for path, _ in outputs], taken=names)
    signature = Signature(
        tuple(_spec(name, tensor) for name, tensor in zip(names, tensors, strict=True)),
        tuple(_spec(name, tensor) for name, (_, tensor) in zip(output_names, outputs, strict=True)),
    )
    plain_in = not keywords and all(isinstance(value, Tensor) for value in given)
    plain_out = isinstance(result, Tensor) or (type(result) is tuple and all(isinstance(r, Tensor) for r in result))
    if not (plain_in and plain_out):
        module = Adapted(module, spec, leaves, isinstance(result, Tensor)).eval()
    examples = {name: np.array(tensor.numpy()) for name, tensor in zip(names, kept, strict=True)}
    return module, examples, signature


def plain_module(module: nn.Module) -> nn.Module:
    """``module``, out of what ``torch.compile`` and data parallelism put around it.

    Raises:
        SourceError: it is TorchScript, or quantized, in whole or in part.
    """
    from torch._dynamo.eval_frame import OptimizedModule

    wrappers = {OptimizedModule: "_orig_mod", nn.DataParallel: "module", nn.parallel.DistributedDataParallel: "module"}
    while (inner := next((name for kind, name in wrappers.items() if isinstance(module, kind)), "")) != "":
        log.info("taking the network out of its %s, which computes the same", type(module).__name__)
        module = getattr(module, inner)
    for name, part in module.named_modules():
        where = f"its part {name!r}" if name else "the network"
        if isinstance(part, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            raise SourceError(
                f"{where} is TorchScript (torch.jit.trace, torch.jit.script or torch.jit.load), which torch.export "
                "does not capture; give the Python module it was made from, with its weights"
            )
        if _is_quantized(part):
            raise SourceError(
                f"{where} is quantized already ({type(part).__name__}), and neither format holds what torch made of "
                "it; give the float network, export it, and quantize the file: edgekit quantize"
            )
    return module


def _is_quantized(module: nn.Module) -> bool:
    """Whether a module computes on torch's own quantized tensors, or holds weights of a quantizing library."""
    kind = type(module).__module__
    if kind.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")):
        return True
    held = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(tensor.is_quantized or type(tensor).__module__.startswith("torchao.") for tensor in held)


def _check_names(kwargs: Mapping[Any, Any]) -> None:
    other = [repr(key) for key in kwargs if not isinstance(key, str)]
    if other:
        raise SourceError(
            f"a dict of example inputs has the names of forward's arguments as keys, but this one has "
            f"{', '.join(other)}; if forward takes the dict itself, put it in a tuple: return module, (inputs,)"
        )


def _say_mode(module: nn.Module) -> None:
    """Says that a module in training mode is put into eval mode, where that changes what it computes."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    found = dict.fromkeys(type(m).__name__ for m in module.modules() if m.training and isinstance(m, kinds))
    if found:
        log.info("the network came in training mode; it is used in eval mode, which changes %s", ", ".join(found))


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C"))
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _run_once(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        with torch.no_grad():
            return module(*args, **kwargs)
    except Exception as error:
        shapes = ", ".join(str(tuple(t.shape)) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        raise SourceError(
            f"the module raises on its own example inputs (shapes {shapes}): {type(error).__name__}: {error}; check "
            "their shapes, types and order"
        ) from error


def _parameter_names(module: nn.Module, count: int) -> list[str]:
    """Names of the first ``count`` positional parameters of forward; ``input_0`` and so on for those of ``*args``."""
    parameters = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    rest = [f"input_{k}" for k in range(count - len(parameters))]
    return [*parameters, *(rest if len(rest) != 1 or parameters else ["input"])][:count]


def _keys(path: Sequence[Any]) -> list[str]:
    """A pytree path as text: indices, keys and field names."""
    return [str(getattr(key, "idx", getattr(key, "key", getattr(key, "name", key)))) for key in path]


def _input_name(path: Sequence[Any], parameters: Sequence[str]) -> str:
    side, first, *rest = _keys(path)
    head = parameters[int(first)] if side == "0" else first
    return _clean("_".join([head, *rest]))


def _output_name(path: Sequence[Any]) -> str:
    keys = _keys(path)
    if not keys:
        return "output"
    name = "_".join(keys)
    return _clean(name if not name[0].isdigit() else f"output_{name}")


def _clean(name: str) -> str:
    return re.sub(r"\W", "_", name) or "tensor"


def _unique(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    seen = set(taken)
    result = []
    for name in names:
        fresh, count = name, 1
        while fresh in seen:
            count += 1
            fresh = f"{name}_out" if count == 2 and taken else f"{name}_{count}"
        seen.add(fresh)
        result.append(fresh)
    return result


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_complex():
        raise SourceError(
            f"{name!r} is {dtype}, and files hold no complex numbers; let the module take and give real and imaginary "
            "part, as torch.view_as_real has them"
        )
    if not hasattr(np, dtype):  # np.dtype() would know more once some library has registered its own types
        raise SourceError(
            f"{name!r} is {dtype}, which numpy and the runtimes do not have; let the module take and give float32"
        )
    shape: tuple[Dim, ...] = tuple(int(size) for size in tensor.shape)
    return TensorSpec(name, dtype, shape)
