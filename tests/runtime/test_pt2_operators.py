"""The operators that a ``.pt2`` program may call: a list, which nothing slips through that reaches beyond tensors."""

from __future__ import annotations

import torch

from edgekit.runtime.pt2_operators import CONTROL, SIZES, _dispatched, is_allowed


def test_operators_only_take_tensors_numbers_and_known_words() -> None:
    """An operator of the list that took a file name, a stream or an object would be a hole in it."""
    plain = {"Tensor", "int", "bool", "number", "float", "Device", "Generator"}
    words = {
        "approximate", "assert_msg", "driver", "equation", "indexing", "interpolation", "mode", "norm", "ord", "p",
        "pad_mode", "padding", "padding_side", "reduce", "rounding_mode", "side", "UPLO",
    }  # fmt: skip
    schemas = {f"{s.name}.{s.overload_name}" if s.overload_name else s.name: s for s in torch._C._jit_get_all_schemas()}
    checked = 0
    for name in _dispatched():
        space, _, rest = name.partition("::")
        operator, _, overload = rest.partition(".")
        if not is_allowed(f"torch.ops.{space}.{operator}.{overload or 'default'}"):
            continue
        for argument in schemas[name].arguments:
            kind = str(argument.type)
            while kind.startswith(("Optional[", "List[")):
                kind = kind.partition("[")[2].removesuffix("]")
            assert kind in plain or (kind == "str" and argument.name in words), (name, argument)
        checked += 1
    assert checked > 1500


def test_names_that_are_not_operators_of_tensors() -> None:
    from torch._export.serde.serialize import _SYM_OPS

    assert {f"{op.__module__}.{op.__name__}" for op in _SYM_OPS} <= SIZES
    assert all(
        is_allowed(name)
        for name in (*SIZES, *CONTROL, "torch.ops.aten.add_.Tensor", "torch.ops.aten.linalg_norm.default")
    )
    for name in (
        "torch.load", "torch.ops.aten.add.str", "torch.ops.aten.format.default", "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.resize_.default", "torch.ops.prims.device_put.default", "_operator.methodcaller", "math.prod",
        "torch.ops.profiler._record_function_enter_new.default", "torch.ops.higher_order.aoti_call_delegate", "cond",
        "#x:y",
    ):  # fmt: skip
        assert not is_allowed(name), name
