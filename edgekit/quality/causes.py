"""Why an exporter fails, in plain words: what torch, its ONNX exporter and litert-torch say, told apart by their texts.

The tools have no common error types. Every rule here was read off a message of theirs; what no rule knows is said to
be unknown and quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """``kind`` tells causes apart; ``words`` say it with what to do, for people."""

    kind: str
    words: str


def _operator(match: re.Match[str]) -> str:
    name = next(group for group in match.groups() if group)
    return name.removesuffix(".default").removeprefix("torch.ops.")


def _unsupported(match: re.Match[str]) -> str:
    return f"unsupported operator {_operator(match)}: write it with other operators"


_WHERE = "compute both sides and choose with torch.where"
_RULES: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...] = (
    (
        "unsupported operator",
        r"Lowering not found: ([\w.:]+)|No ONNX function found for <OpOverload\(op='([\w.]+)'|"
        r"no kernel for (STABLEHLO_\w+)|op\(s\) not supported[^:]*: ([\w.:]+)",
        _unsupported,
    ),
    (
        "data-dependent control flow",
        r"Could not guard on data-dependent expression|Dynamic control flow|DataDependentOutputException|"
        r"TracerBoolConversionError",
        f"data-dependent control flow: an if, while or loop count depends on the values of tensors; {_WHERE}",
    ),
    (
        "data-dependent shape",
        r"NonConcreteBooleanIndexError|Could not extract specialized integer|DynamicOutputShapeException|"
        r"boolean indices must be concrete",
        f"data-dependent shape: a tensor's size depends on the values of tensors; {_WHERE}, or top-k",
    ),
    (
        "value as a number",
        r"ConcretizationTypeError|Abstract tracer value|_local_scalar_dense",
        "a tensor's value becomes a Python number or a size (.item(), int(), nonzero): keep it a tensor",
    ),
    (
        "dynamic size",
        r"Shapes must be 1D sequences of concrete values|-9223372036854775808|between instances of 'int' and 'Node'",
        "dynamic size: litert-torch's reshape and mean take fixed sizes only in this place; fix the size",
    ),
    (
        "complex dtype",
        r"complex(?:64|128)|ComplexFloat|ComplexDouble|Unsupported ir element type: complex",
        "complex dtype: the file has no complex numbers; keep real and imaginary part as two real tensors",
    ),
    (
        "in-place mutation",
        r"in-?place|mutat(?:ed|ion|es)|functionaliz|a leaf Variable that requires grad|copy_ .* not supported",
        "in-place mutation of a tensor that outlives the call: return the new value instead of writing into it",
    ),
    (
        "non-contiguous tensor",
        r"view size is not compatible|non-?contiguous|\.contiguous\(\)",
        "non-contiguous tensor: call .contiguous() on it, or reshape instead of view",
    ),
    (
        "tensor outside of torch",
        r"\.numpy\(\) is not supported|Cannot access data pointer|tensor subclasses|data_ptr",
        "the tensor leaves torch (numpy, another library): write that step with torch operators",
    ),
    (
        "constant outside of the module",
        r"Please convert all Tensors to FakeTensors|allow_non_fake_inputs|Mixing fake modes",
        "a tensor that is neither a parameter, a buffer nor an input takes part: register it as a buffer",
    ),
    (
        "side effect",
        r"Number of input tokens .* does not match output tokens|aten\._assert|with_effects",
        "an operator that checks values while it runs (torch.linalg's inverse and its like): use one that does not",
    ),
    (
        "unsupported type",
        r"f64|float64|failed to legalize operation|Unsupported ir element type",
        "an operator that the format does not have for these types (often 64-bit ones): use float32 and int32 there",
    ),
    (
        "fixed size",
        r"Constraints violated|specialized|marked .* as dynamic",
        "a size that was asked to be dynamic is fixed in the network: leave that axis out of --dynamic",
    ),
)


def explain(text: str) -> Cause:
    """The cause behind the whole text of a failure."""
    for kind, pattern, words in _RULES:
        match = re.search(pattern, text)
        if match:
            return Cause(kind, words if isinstance(words, str) else words(match))
    return Cause("unknown", "a cause that edgekit has no name for")
