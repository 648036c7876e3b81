"""Which ONNX files become TFLite that is proved: the shipped zoo, small files of awkward kinds, networks of packages.

Each by edgekit's command line; the table is docs/onnx-to-tflite.md."""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from real_packages import unpacked
from results_page import machine

from edgekit import registry
from edgekit.bench.environment import environment
from edgekit.environments import ONNX2TF

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "onnx-to-tflite.md"
WORK = ROOT / "runs" / "onnx-to-tflite"
"""Files in the making, and the rows that are finished, which are not run again."""
REFUSED = (1, 2, 3)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@dataclass(frozen=True)
class Subject:
    """One ONNX file. ``make``: (folder, cache) -> its path; ``options``: of ``export``, sizes of its free axes."""

    name: str
    origin: str
    make: Callable[[Path, Path], Path]
    options: Sequence[str] = ()


def of_zoo(name: str) -> Subject:
    def make(folder: Path, cache: Path) -> Path:
        run("export", name, "--to", "onnx", "-o", str(folder), "-q")
        return folder / f"{name}.onnx"

    return Subject(name, "edgekit's zoo", make)


def of_package(name: str, requirement: str, inside: str, *options: str) -> Subject:
    return Subject(name, f"`{requirement}`", lambda folder, cache: unpacked(requirement, cache) / inside, options)


def written(name: str, text: str, graph: Callable[[], Any], opset: int = 17) -> Subject:
    def make(folder: Path, cache: Path) -> Path:
        path = folder / f"{name}.onnx"
        onnx.save(helper.make_model(graph(), opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
        return path

    return Subject(name, text, make)


def graph_of(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **weights: Any) -> Any:
    value = helper.make_tensor_value_info
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    return helper.make_graph(nodes, "g", [value(*i) for i in inputs], [value(*o) for o in outputs], constants)


def normal(seed: int, *shape: int) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.2).astype(np.float32)


def upsample() -> Any:
    node = helper.make_node
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Upsample", ["a", "s"], ["u"], mode="linear")]
    weights = {"w": normal(0, 8, 3, 3, 3), "s": np.array([1, 1, 2, 2], np.float32)}
    return graph_of(nodes, [("x", FLOAT, [1, 3, 16, 16])], [("u", FLOAT, [1, 8, 28, 28])], **weights)


def branches() -> Any:
    value, node = helper.make_tensor_value_info, helper.make_node
    sides = [
        helper.make_graph([node(kind, ["m"], [name])], name, [], [value(name, FLOAT, [1, 64])])
        for kind, name in (("Relu", "then"), ("Tanh", "other"))
    ]
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=sides[0], else_branch=sides[1]),
    ]
    shape = [1, 64]
    return graph_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], w=normal(0, 64, 64), zero=np.float32(0))


def two_tables() -> Any:
    node = helper.make_node
    nodes = [
        node("Gather", ["types", "token_type_ids"], ["t"]),
        node("Gather", ["words", "input_ids"], ["e"]),
        node("Add", ["t", "e"], ["a"]),
        node("MatMul", ["a", "w"], ["y"]),
    ]
    inputs = [(name, INT64, [1, 16]) for name in ("input_ids", "token_type_ids")]
    weights = {"types": normal(0, 2, 32), "words": normal(1, 500, 32), "w": normal(2, 32, 32)}
    return graph_of(nodes, inputs, [("y", FLOAT, [1, 16, 32])], **weights)


def constant_nodes() -> Any:
    node = helper.make_node
    weight = node("Constant", [], ["w"], value=numpy_helper.from_array(normal(0, 8, 3, 3, 3)))
    nodes = [
        weight,
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node("GlobalAveragePool", ["a"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    return graph_of(nodes, [("x", FLOAT, ["batch", 3, 32, 32])], [("y", FLOAT, ["batch", 8])])


def equal_sizes() -> Any:
    node = helper.make_node
    nodes = [node("Conv", ["x", "w"], ["a"], pads=[1] * 4), node("Relu", ["a"], ["y"])]
    shape = [1, 8, 8, 8]
    return graph_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], w=normal(0, 8, 8, 3, 3))


def subjects() -> Iterator[Subject]:
    yield from map(of_zoo, registry.names("families"))
    yield written("upsample", "Upsample of opset 9, asymmetric coordinates", upsample, 9)
    yield written("branches", "If between two sides", branches)
    yield written("two-tables", "two tables looked up by int64", two_tables)
    yield written("constant-nodes", "weights as Constant nodes, opset 13", constant_nodes, 13)
    yield written("equal-sizes", "channels, height and width of one size", equal_sizes)
    yield of_package("magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx")
    yield of_package("basic-pitch", "basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    sizes = ("--shape", "height=320", "--shape", "width=320")
    yield of_package("nudenet", "nudenet==3.4.2", "nudenet/320n.onnx", *sizes)
    silero, at = "silero-vad==6.2.3", ("--shape", "input=1x576")
    for file in ("silero_vad_16k_op15", "silero_vad_op18_ifless", "silero_vad_16k_sequence"):
        options = at if file != "silero_vad_16k_sequence" else ()
        yield of_package(file.replace("_", "-"), silero, f"silero_vad/data/{file}.onnx", *options)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("edgekit"))
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def row(subject: Subject, cache: Path, folder: Path) -> tuple[str, bool]:
    """A line of the table, and whether the file was published or refused."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = subject.make(folder, cache)
    started = time.monotonic()
    command = ("export", str(path), "--to", "tflite", "-o", str(folder / "out"), *subject.options, "--json", "-", "-q")
    done = run(*command)
    seconds, size = time.monotonic() - started, f"{path.stat().st_size:,}"
    head = f"| {subject.name} | {subject.origin} | {size} |"
    if done.returncode:
        said = " ".join(done.stderr.replace(str(path), path.name).replace("|", "/").split()).removeprefix("edgekit: ")
        clean = done.returncode in REFUSED and not (folder / "out").exists()
        return f"{head} exit {done.returncode} | | | {seconds:.0f} | {said[:300]} |", clean
    (made,) = json.loads(done.stdout)["artifacts"]
    parity = made["parity"]
    figures = f"{made['bytes']:,} | {parity['max_abs']:.1e} of {parity['tolerance']:.1e}"
    return f"{head} proved | {figures} | {seconds:.0f} | {'; '.join(made['notes'])} |", bool(parity["passed"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="those alone, once more; the page is not written then")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "real-networks", metavar="DIR")
    parser.add_argument("--finished", action="store_true", help="write the page of the rows that are finished")
    options = parser.parse_args()
    kept = WORK / "rows.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for subject in () if options.finished else subjects():
        if (subject.name in known) if not options.names else (subject.name not in options.names):
            continue
        known[subject.name] = row(subject, options.cache, WORK / subject.name)
        print(known[subject.name][0], flush=True)
        kept.write_text(json.dumps(known))
    done = [known[subject.name] for subject in subjects() if subject.name in known]
    rows = [line for line, _ in done]
    if not options.names:
        passed = sum("| proved |" in line for line in rows)
        text = f"""# ONNX to TFLite

Made by `scripts/onnx_to_tflite`: ONNX files that become TFLite by onnx2tf ([onnx-files.md](onnx-files.md)), each proved
against the file in onnxruntime. A file that is not proved is refused, with what is wrong, and nothing is published.

{machine(environment())[0]} {ONNX2TF.packages[0]}. {datetime.date.today().isoformat()}.
{passed} of {len(rows)} files are proved.

Difference: the largest of any output in any case, and what is allowed. Seconds: of the whole command.

| file | what it is | bytes | | bytes of TFLite | difference | seconds | |
|---|---|---:|---|---:|---|---:|---|
"""
        PAGE.write_text(text + "\n".join(rows) + "\n")
    return 0 if all(clean for _, clean in done) else 1


if __name__ == "__main__":
    sys.exit(main())
