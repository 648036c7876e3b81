"""The program inside a ``.pt2`` archive, checked field by field against torch's own schema and written anew.

torch turns the text of a program into Python: names of values and arguments become source code that is executed, the
structure of its inputs names modules that are imported, its guards and sizes are evaluated, its operators are looked up
among everything that ``torch`` can reach. So every text is bounded by what its field is for, fields that torch would
evaluate and edgekit does not need are left out, and what has no place in the schema does not get through.
"""

from __future__ import annotations

import dataclasses
import json
import keyword
import re
import unicodedata
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from edgekit.documents import parse_json
from edgekit.errors import ModelError
from edgekit.limits import check
from edgekit.pt2_reader import WAY_OUT
from edgekit.runtime.pt2_operators import CONTROL, SIZES, is_allowed
from edgekit.runtime.pt2_sizes import BITS, SYMBOL, refusal

_DEVICES: Final = ("cpu", "cuda", "meta", "mps", "xpu")
_TREES: Final = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_NUMBERS: Final = ("Infinity", "-Infinity", "NaN")
_TAKEN: Final = ("self", "torch", "pytree", "fx_pytree")
"""Names that the source code torch makes of a program uses itself."""
_PATH = re.compile(r"[\w:+@/-]{1,200}(\.[\w:+@/-]{1,200}){0,99}")
"""Attributes, which torch writes as text where they are not identifiers; Keras' have a slash (``dense/bias``)."""
_PAYLOAD = re.compile(r"(weight|tensor)_\d{1,9}")
_VERSION = re.compile(r"[\w.+<=-]{0,60}")
_MODULES = "nn_module_stack"
_SIZE_TEXTS, _TEXT = 200_000, 4_000
"""Characters of all sizes together, and of one text."""
_WIDE, _PASSED = 64, 128
"""Bits of a number in the file and of a size that a tensor has, and of one that a graph is given."""


class _Refusal(Exception):
    """What is wrong with a field, without the file's name."""


def vetted_program(text: bytes, subject: object) -> bytes:
    """The program ``text`` (JSON), of vetted fields only.

    Raises:
        ModelError: a field holds what an exported program does not have there.
        LimitError: too many operators, or a text that is too large.
    """
    from torch._export.serde import schema

    return json.dumps(_vetted(schema.ExportedProgram, text, subject)).encode()


def vetted_payloads(text: bytes, subject: object) -> tuple[bytes, Mapping[str, Any]]:
    """The list of weights or constants ``text`` (JSON), of vetted fields only: as bytes, and by the tensor's name.

    Raises:
        ModelError: as :func:`vetted_program`; or a tensor is stored as a pickle.
    """
    from torch._export.serde import schema

    made = _vetted(schema.PayloadConfig, text, subject)
    for name, entry in made["config"].items():
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise ModelError(f"{subject}: {name!r} is a pickle, which can run code when it is opened; {WAY_OUT}")
    return json.dumps(made).encode(), made["config"]


def _vetted(kind: Any, text: bytes, subject: object) -> Any:
    walk = _Walk(subject)
    try:
        return walk.of(kind, parse_json(text, ModelError, subject), ("", ""))
    except _Refusal as error:
        raise ModelError(f"{subject}: {error}; {WAY_OUT}") from error
    except RecursionError as error:
        raise ModelError(f"{subject}: it is nested too deeply; {WAY_OUT}") from error


class _Walk:
    """One pass over a document. ``place``: class and field of torch's schema that a value belongs to."""

    def __init__(self, subject: object) -> None:
        self._subject, self._nodes = subject, 0
        self._sizes: dict[str, None] = {}

    def of(self, kind: Any, value: Any, place: tuple[str, str]) -> Any:
        """``value``, rebuilt as torch's schema describes it."""
        while get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if get_origin(kind) in (Union, UnionType):
            return None if value is None else self.of(get_args(kind)[0], value, place)
        if get_origin(kind) is list:
            return [self.of(get_args(kind)[0], item, place) for item in _typed(value, list, place)]
        if get_origin(kind) is dict:
            if place == ("Node", "metadata"):
                return _metadata(_typed(value, dict, place))
            keyed = _KEYS.get(place, _name)
            return {
                _text(key, keyed, place): self.of(get_args(kind)[1], item, place)
                for key, item in _typed(value, dict, place).items()
            }
        if dataclasses.is_dataclass(kind):
            return self._object(kind, _typed(value, dict, place))
        if isinstance(kind, type) and issubclass(kind, IntEnum):
            if _typed(value, int, place) not in kind._value2member_map_:
                raise _Refusal(f"{_shown(place)} is {value}, which torch does not know")
            return value
        if kind is str:
            made = _text(value, _TEXTS.get(place, _name), place)
            if place == ("SymExpr", "expr_str"):
                self._count_size(made)
            return made
        if kind is float and (value in _NUMBERS or type(value) is int):
            return value
        if kind is int and abs(_typed(value, int, place)) > 1 << _WIDE:
            raise _Refusal(f"{_shown(place)} has a number of more than {_WIDE} bits")
        return _typed(value, kind, place)

    def _count_size(self, text: str) -> None:
        self._sizes[text] = None
        if sum(map(len, self._sizes)) > _SIZE_TEXTS:
            raise _Refusal(f"its sizes are texts of more than {_SIZE_TEXTS:,} characters")

    def _object(self, kind: Any, value: dict[str, Any]) -> dict[str, Any]:
        hints = _hints(kind)
        known = {key: item for key, item in value.items() if key in hints and (kind.__name__, key) not in _LEFT_OUT}
        if _is_union(kind):
            if len(value) != 1 or len(known) != 1:
                raise _Refusal(f"{kind.__name__} has the parts {', '.join(map(str, value))[:200]}, one known is wanted")
            (name,) = known
            if (kind.__name__, name) in _REFUSED:
                raise _Refusal(f"it has {_shown((kind.__name__, name))}, which can run code when it is opened")
        elif missing := _required(kind) - known.keys():
            raise _Refusal(f"{kind.__name__} has no {sorted(missing)[0]!r}")
        if kind.__name__ == "Node":
            self._nodes += 1
            check("GRAPH_NODES", self._nodes, self._subject)
        made = {name: self.of(hints[name], item, (kind.__name__, name)) for name, item in known.items()}
        if kind.__name__ == "Graph":
            if made.get("custom_obj_values"):
                raise _Refusal("it has objects, which can run code when they are opened")
            _check_computed_sizes(made)
        return made


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    from torch._export.serde import schema

    return get_type_hints(kind, globalns=vars(schema), include_extras=True)


@cache
def _required(kind: Any) -> frozenset[str]:
    missing = dataclasses.MISSING
    rows = dataclasses.fields(kind)
    return frozenset(row.name for row in rows if row.default is missing and row.default_factory is missing)


def _is_union(kind: Any) -> bool:
    from torch._export.serde.union import _Union

    return issubclass(kind, _Union)


def _typed(value: Any, kind: type, place: tuple[str, str]) -> Any:
    if type(value) is not kind:
        raise _Refusal(f"{_shown(place)} is a {type(value).__name__}, a {kind.__name__} was expected")
    return value


def _shown(place: tuple[str, str]) -> str:
    return ".".join(filter(None, place)) or "the document"


def _text(value: Any, rule: Callable[[str], str | None], place: tuple[str, str]) -> str:
    text = str(_typed(value, str, place))
    made = rule(text)
    if made is None:
        raise _Refusal(f"{_shown(place)} is {text[:60]!r}, which is not allowed there: it could run code")
    return made


# What a text may be, by the field it stands in: each gives the text, or None for one that it may not be.


def _name(text: str) -> str | None:
    plain = text.isidentifier() and text == unicodedata.normalize("NFKC", text)  # as Python reads source code
    return text if plain and not keyword.iskeyword(text) and text not in _TAKEN and len(text) <= _TEXT else None


def _argument(text: str) -> str | None:
    return text if not text or text.isidentifier() else None


def _path(text: str) -> str | None:
    fits = not text or (_PATH.fullmatch(text) and not any(part.startswith("__") for part in text.split(".")))
    return text if fits else None


def _plain(text: str) -> str | None:
    return text if len(text) <= _TEXT and text.isprintable() else None


def _size(text: str) -> str | None:
    reason = refusal(text)
    if reason is not None:
        raise _Refusal(f"the size {text[:60]!r} {reason}")
    return text


def _operator(text: str) -> str | None:
    if not is_allowed(text):
        raise _Refusal(f"it calls {text[:100]!r}, which is not among the operators that edgekit runs")
    return text


def _tree(text: str) -> str:
    """The structure of inputs or outputs: tuples, lists and dicts, whose context is the only text in it."""
    found = _json(text)
    if type(found) is not list or len(found) != 2 or found[0] != 1:
        raise _Refusal("the structure of its inputs and outputs is in an unknown form")
    return json.dumps([1, _branch(found[1])])


def _json(text: str) -> Any:
    try:
        return parse_json(text.encode(), ModelError, "the structure of its inputs and outputs")
    except (ModelError, UnicodeEncodeError) as error:
        raise _Refusal(str(error)) from error


def _branch(value: Any) -> dict[str, Any]:
    if type(value) is not dict or value.keys() != {"type", "context", "children_spec"}:
        raise _Refusal("the structure of its inputs and outputs is in an unknown form")
    kind, context, parts = value["type"], value["context"], value["children_spec"]
    if kind is None and context is None and parts == []:
        return value
    if kind not in _TREES or type(context) is not str or type(parts) is not list:
        raise _Refusal(f"its inputs or outputs are a {str(kind)[:60]!r}; tuples, lists and dicts are read")
    keys = _json(context)
    if kind in _TREES[:2]:
        fits = keys is None
    else:
        fits = type(keys) is list and len(keys) == len(parts) and all(_is_key(key) for key in keys)
    if not fits:
        raise _Refusal(f"its inputs or outputs have the keys {context[:60]!r}, which could run code")
    return {"type": kind, "context": json.dumps(keys), "children_spec": [_branch(part) for part in parts]}


def _is_key(key: Any) -> bool:
    return type(key) is int or (type(key) is str and _name(key) is not None)


def _metadata(found: Mapping[str, Any]) -> dict[str, str]:
    """Of what torch notes about an operator, the modules it comes from: ``key,path,class`` each."""
    text = found.get(_MODULES, "")
    return {_MODULES: text} if type(text) is str and text and _plain(text) else {}


_TEXTS: Final[Mapping[tuple[str, str], Callable[[str], str | None]]] = {
    ("Node", "target"): _operator,
    ("Argument", "as_operator"): _operator,
    ("Argument", "as_string"): _plain,
    ("Argument", "as_strings"): _plain,
    ("ConstantValue", "as_string"): _plain,
    ("NamedArgument", "name"): _argument,
    ("SymExpr", "expr_str"): _size,
    ("Device", "type"): lambda text: text if text in _DEVICES else None,
    ("InputToParameterSpec", "parameter_name"): _path,
    ("InputToBufferSpec", "buffer_name"): _path,
    ("InputToTensorConstantSpec", "tensor_constant_name"): _path,
    ("BufferMutationSpec", "buffer_name"): _path,
    ("ParameterMutationSpec", "parameter_name"): _path,
    ("GradientToParameterSpec", "parameter_name"): _path,
    ("ModuleCallEntry", "fqn"): _path,
    ("ModuleCallSignature", "in_spec"): _tree,
    ("ModuleCallSignature", "out_spec"): _tree,
    ("ExportedProgram", "verifiers"): _argument,
    ("ExportedProgram", "torch_version"): lambda text: text if _VERSION.fullmatch(text) else None,
    ("PayloadMeta", "path_name"): lambda text: text if _PAYLOAD.fullmatch(text) else None,
}
"""Field -> what its text may be; the text of any other is a name."""
_KEYS: Final[Mapping[tuple[str, str], Callable[[str], str | None]]] = {
    ("ExportedProgram", "range_constraints"): lambda text: text if SYMBOL.fullmatch(text) else _size(text),
    ("PayloadConfig", "config"): _path,
}
_LEFT_OUT: Final = (
    ("ExportedProgram", "guards_code"),
    ("GraphModule", "metadata"),
    ("GraphModule", "treespec_namedtuple_fields"),
)
"""Fields that torch can do without, and that hold source code or what the user's tools noted."""
_REFUSED: Final = (
    ("Argument", "as_custom_obj"),
    ("Argument", "as_string_to_argument"),
    ("InputSpec", "custom_obj"),
    ("InputSpec", "token"),
    ("OutputSpec", "token"),
)


# Sizes that a program computes while it runs are Python's integers, which have no largest one.


def _check_computed_sizes(graph: Mapping[str, Any]) -> None:
    """Raises _Refusal where a size can become longer than BITS, or a subgraph is given one of more than _PASSED."""
    bits = dict.fromkeys((name for row in graph["inputs"] for name in _names_in(row)), _PASSED)
    for node in graph["nodes"]:
        given = [row["arg"] for row in node["inputs"]]
        most = max((_bits_of(argument, bits) for argument in given), default=0)
        if node["target"] in CONTROL and most > _PASSED:
            raise _Refusal(f"a subgraph is given a size of more than {_PASSED} bits")
        if node["target"] not in SIZES:
            continue
        operation = node["target"].rpartition(".")[2]
        if operation in ("pow", "lshift"):
            exponent = 1 if "as_float" in given[-1] else given[-1].get("as_int", BITS)
            made = most * exponent if operation == "pow" else most + exponent
        else:
            made = sum(_bits_of(argument, bits) for argument in given) if operation == "mul" else most + 1
        if made > BITS:
            raise _Refusal(f"it computes a size that can become larger than {BITS:,} bits")
        bits |= dict.fromkeys((name for row in node["outputs"] for name in _names_in(row)), made)


def _bits_of(argument: Mapping[str, Any], known: Mapping[str, int]) -> int:
    """Bits of the largest whole number among the parts of an argument."""
    numbers = [row for row in _parts(argument) if type(row) is int]
    numbers += [row["as_int"] for row in _parts(argument) if isinstance(row, dict) and "as_int" in row]
    sizes = [known.get(name, _WIDE) for name in _names_in(argument)]
    return max([1, *sizes, *(abs(number).bit_length() for number in numbers)])


def _names_in(argument: Mapping[str, Any]) -> list[str]:
    """Names of the sizes that an argument refers to."""
    return [row["as_name"] for row in _parts(argument) if isinstance(row, dict) and "as_name" in row]


def _parts(argument: Mapping[str, Any]) -> list[Any]:
    (value,) = argument.values()
    return value if isinstance(value, list) else [value]
