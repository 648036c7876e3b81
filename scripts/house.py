"""Measures of the code's shape, each with what is wanted; see scripts/house. The figures count what a reader meets."""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"edgekit": "edgekit", "models": "edgekit.models", "converters": "edgekit.converters"}
"""Folder -> package."""
OPTION = "max_drop"
PHRASES = r"\bto be had\b|\bis none\b|\bgone on with\b|(?<![Tt]here )\b(?:is|are|was|were) no (?!longer|more)"
LEAST_NAMES = 3
"""Names of operators that make a literal a table."""
OF_SYMPY = ("edgekit.runtime.pt2_sizes",)
"""Modules that list functions of sympy, some of which are called like operators of ONNX."""
TRACED = """
import json, sys, threading
root, target = sys.argv[1], sys.argv[2]
seen = set()
def note(frame, event, argument):
    code = frame.f_code
    if event != "call" or not code.co_flags & 1 or not code.co_filename.startswith(root) or code.co_filename in seen:
        return  # 1: a function; the body of a class runs as its module is imported
    back = frame.f_back
    while back is not None:
        if back.f_code.co_name == "<module>" and back.f_code.co_filename.startswith(root):
            return  # a default, a decorator: imported, not run
        back = back.f_back
    seen.add(code.co_filename)
from edgekit.cli import main
sys.setprofile(note); threading.setprofile(note)
try:
    main(sys.argv[3:])
finally:
    sys.setprofile(None)
    open(target, "w").write(json.dumps(sorted(seen)))
"""


@dataclass(frozen=True)
class Measure:
    """One row. ``most``: the largest value that is wanted; ``least``: the smallest."""

    name: str
    value: float
    most: float | None = None
    least: float | None = None

    @property
    def held(self) -> bool:
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    def __str__(self) -> str:
        wanted = "" if self.most is None else f"at most {self.most:,g}"
        wanted += "" if self.least is None else f"at least {self.least:,g}"
        return f"{self.name:<72} {self.value:>10,g}   {wanted:<18} {'' if self.held else 'MISSED'}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="also the places of each kind that is to go")
    options = parser.parse_args()
    modules = dict(_modules())
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    found = [measure(modules, trees) for measure in MEASURES]
    for measure, places in found:
        print(measure)
        for place in places if options.list else ():
            print(f"    {place}")
    return 0 if all(measure.held for measure, _ in found) else 1


Modules = dict[str, Path]
Trees = dict[str, ast.Module]
Found = tuple[Measure, list[str]]


def _modules() -> Iterator[tuple[str, Path]]:
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def option_places(modules: Modules, trees: Trees) -> Found:
    """Places that have to know one option of quantize for it to be there: a field, a parameter, a keyword, a key. Where
    its value is used (``options.max_drop``), and texts, are not among them."""
    places = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            named = {
                ast.arg: lambda one: one.arg,
                ast.keyword: lambda one: one.arg,
                ast.Name: lambda one: one.id,
                ast.Constant: lambda one: one.value,
            }.get(type(node))
            if named is not None and named(node) in (OPTION, OPTION.replace("_", "-"), f"--{OPTION.replace('_', '-')}"):
                places.append(f"{_short(modules[name])}:{getattr(node, 'lineno', 0)}")
    count = len({place.partition(":")[0] for place in places})
    return Measure(f"files that have to know the option {OPTION} ({len(places)} places)", count, most=3), places


def traced_modules(modules: Modules, trees: Trees) -> Found:
    """Modules whose functions run in the host process of one quantization."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([_edgekit(), "export", "mlp", "--to", "onnx", "-o", folder, "-q"], check=True)
        target = Path(folder) / "seen.json"
        command = ["quantize", f"{folder}/mlp.onnx", "--scheme", "int8", "--seconds", "0", "--data", "breast-cancer"]
        command += ["-o", f"{folder}/int8.onnx", "-q"]
        subprocess.run([sys.executable, "-c", TRACED, f"{ROOT}/", str(target), *command], check=False)
        seen = [place for place in json.loads(target.read_text()) if Path(place) in set(modules.values())]
    name = "modules whose code runs in `quantize m.onnx --scheme int8 --seconds 0`"
    return Measure(name, len(seen), most=40), [_short(Path(place)) for place in seen]


def operator_tables(modules: Modules, trees: Trees) -> Found:
    """Literals of several names of ONNX or TFLite operators, in modules outside edgekit.graph."""
    known = _operator_names()
    tables = []
    for name, tree in trees.items():
        if name.startswith("edgekit.graph.") or name in OF_SYMPY:
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.col_offset == 0 and node.value is not None:
                texts = {
                    n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                }
                names = {word for text in texts for word in text.split()}
                if len(names & known) >= LEAST_NAMES:
                    tables.append(f"{_short(modules[name])}:{node.lineno}")
    return Measure("tables of operator names outside edgekit/graph", len(tables), most=0), tables


def string_lookups(modules: Modules, trees: Trees) -> Found:
    """``["literal"]`` and ``.get("literal")`` in edgekit/report."""
    places = []
    for name, tree in trees.items():
        if not name.startswith("edgekit.report"):
            continue
        for node in ast.walk(tree):
            key = node.slice if isinstance(node, ast.Subscript) else None
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "get"
                and node.args
            ):
                key = node.args[0]
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                places.append(f"{_short(modules[name])}:{key.lineno}")
    return Measure("look-ups by string in reports", len(places), most=60), places


def import_cycles(modules: Modules, trees: Trees) -> Found:
    """Groups of modules that import each other, imports within functions counted, those for types alone not."""
    graph = networkx.DiGraph()
    for name, tree in trees.items():
        graph.add_edges_from((name, other) for other in _imports(name, tree, modules) if other != name)
    groups = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
    return Measure("import cycles, lazy ones counted", len(groups), most=0), [" ".join(group) for group in groups]


def _imports(name: str, tree: ast.Module, modules: Modules) -> Iterator[str]:
    for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (place for place in inner if place in modules)
            if node.module in modules and not all(place in modules for place in inner):
                yield node.module


def lines_of_code(modules: Modules, trees: Trees) -> Found:
    counts = {name: path.read_text(encoding="utf-8").count("\n") for name, path in modules.items()}
    largest = sorted(counts, key=lambda name: -counts[name])[:20]
    return Measure(f"lines of {len(modules)} files", sum(counts.values()), most=40_000), [
        f"{n} {counts[n]}" for n in largest
    ]


def phrases(modules: Modules, trees: Trees) -> Found:
    documents = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    pattern, places = re.compile(PHRASES), []
    for path in [*modules.values(), *(ROOT / "scripts").glob("*.py"), *documents]:
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            places += [f"{_short(path)}:{number + 1} {match.group()}" for match in pattern.finditer(line)]
    return Measure("`to be had`, `is none`, `gone on with`, `X is no Y`", len(places), most=5), places


def docstrings(modules: Modules, trees: Trees) -> Found:
    """Share of public functions and methods of public classes that have one; overriding methods may inherit theirs."""
    bare, count = [], 0
    for name, tree in trees.items():
        for node, public in _functions(tree):
            if public:
                count += 1
                if ast.get_docstring(node) is None:
                    bare.append(f"{_short(modules[name])}:{node.lineno} {node.name}")
    return Measure(
        "public functions with a docstring, per cent", round(100 * (1 - len(bare) / count), 1), least=100
    ), bare


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node, not node.name.startswith("_")


def test_functions(modules: Modules, trees: Trees) -> Found:
    files = (ROOT / "tests").rglob("test_*.py")
    found = [
        n for f in files for n in ast.walk(ast.parse(f.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)
    ]
    return Measure("test functions", sum(node.name.startswith("test_") for node in found), least=1621), []


def _operator_names() -> frozenset[str]:
    import onnx.defs
    from ai_edge_litert import schema_py_generated as schema

    ours = {entry.name for entry in onnx.defs.get_all_schemas()}
    return frozenset(ours | {name for name in vars(schema.BuiltinOperator) if name.isupper()})


def _edgekit() -> str:
    return str(Path(sys.executable).with_name("edgekit"))


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


MEASURES: tuple[Callable[[Modules, Trees], Found], ...] = (
    option_places, traced_modules, operator_tables, string_lookups, import_cycles, lines_of_code, phrases, docstrings,
    test_functions,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
