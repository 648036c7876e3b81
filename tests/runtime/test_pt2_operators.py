"""Operators that a program of a stranger may call, and good files that call unusual ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgekit.runtime import load
from edgekit.runtime.pt2_operators import CONTROL, SIZES, _dispatched, is_allowed


class Branches(torch.nn.Module):
    """Control flow, arithmetic on sizes, and a mutated buffer, in one program."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        y = torch.cond(x.sum() > 0, lambda t: t + 1, lambda t: t - 1, (x,))
        with torch.no_grad():
            y = y * 2
        return y.reshape(-1)[: x.shape[0] * 2 - 1]


def test_control_flow_and_computed_sizes_of_good_files_work(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    program = torch.export.export(
        Branches(), (torch.ones(4, 3),), dynamic_shapes={"x": {0: torch.export.Dim("n", min=2)}}
    )
    torch.export.save(program, path)
    with load(path) as runner:
        for x in (np.ones((5, 3), np.float32), -np.ones((3, 3), np.float32)):
            (result,) = runner.run({runner.signature.inputs[0].name: x}).values()
            assert np.array_equal(result, Branches()(torch.from_numpy(x)).numpy())


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


def test_names_that_are_no_operators_of_tensors() -> None:
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
