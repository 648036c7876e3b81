"""``.pt2`` archives of strangers: nothing in one is unpickled, imported, evaluated or run as code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.artifact import open_artifact, write_card
from edgekit.errors import InputError, LimitError, ModelError
from edgekit.runtime import load
from edgekit.runtime.pt2 import load_program
from edgekit.types import Card, Signature, Task, TensorSpec

Document = dict[str, Any]


class Net(torch.nn.Module):
    """(n, 3) -> (n, 2)"""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = torch.nn.Linear(3, 2)
        self.register_buffer("seen", torch.ones(2))
        self.fixed = torch.arange(2.0)

    def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        y = self.lin(x) + self.seen + self.fixed
        return y if scale is None else y * scale


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dynamic = {"x": {0: torch.export.Dim("n", min=1, max=64)}, "scale": None}
    given = (torch.ones(2, 3),), {"scale": torch.ones(2)}
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), *given, dynamic_shapes=dynamic), path)
    return path


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What comes to be where code of the archive runs; a module that makes it can be imported, too."""
    made = tmp_path / "ran"
    folder = tmp_path / "importable"
    folder.mkdir()
    (folder / "evilmodule.py").write_text(f"import pathlib\npathlib.Path({str(made)!r}).touch()\nclass Kind: pass\n")
    monkeypatch.syspath_prepend(folder)
    yield made
    sys.modules.pop("evilmodule", None)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"net/{name}", data)
    return buffer.getvalue()


def changed(saved: Path, target: Path, change: Callable[[Document], None], member: str = "models/model.json") -> Path:
    """A copy of ``saved`` with one of its documents changed."""
    content = members(saved)
    document = json.loads(content[member])
    change(document)
    target.write_bytes(packed({**content, member: json.dumps(document).encode()}))
    return target


def tried(path: Path) -> None:
    """Everything that edgekit does with such a file, up to its end or its refusal."""
    with load(path) as runner:
        sizes = {"x": (2, 3), "scale": (2,)}
        runner.run({spec.name: np.ones(sizes[spec.name], spec.dtype) for spec in runner.signature.inputs})
    from edgekit.source import resolve

    network = resolve(str(path))
    torch.export.export(network.module, tuple(torch.from_numpy(v) for v in network.example_inputs.values()))


def graph(document: Document) -> Document:
    return document["graph_module"]["graph"]


def call(target: str, *arguments: Document, name: str = "added", output: Document | None = None) -> Document:
    rows = [{"name": key, "arg": argument[key], "kind": 1} for argument in arguments for key in argument]
    return {
        "target": target, "inputs": rows, "outputs": [output or {"as_none": True}], "metadata": {},
        "is_hop_single_tensor_return": None, "name": name,
    }  # fmt: skip


def renamed(document: Document, old: str, new: str) -> None:
    text = json.dumps(document).replace(json.dumps(old), json.dumps(new))
    document.clear()
    document.update(json.loads(text))


def test_a_file_of_torch_opens_with_and_without_a_card(saved: Path, tmp_path: Path) -> None:
    x, scale = np.full((5, 3), 0.5, np.float32), np.full(2, 2, np.float32)
    wanted = Net().eval()(torch.from_numpy(x), torch.from_numpy(scale)).detach().numpy()
    plain = tmp_path / "plain.pt2"
    plain.write_bytes(saved.read_bytes())
    signature = Signature(
        (TensorSpec("x", "float32", ("n", 3)), TensorSpec("scale", "float32", (2,))),
        (TensorSpec("y", "float32", ("n", 2)),),
    )
    carded = write_card(saved, Card("net", "custom", Task(), signature), tmp_path / "carded.pt2").path
    again = write_card(carded, Card("other", "custom", Task(), signature), tmp_path / "again.pt2").path
    card = open_artifact(again).card
    assert card is not None and card.name == "other"
    for path in (plain, carded, again):
        with load(path) as runner:
            (result,) = runner.run({"x": x, "scale": scale}).values()
            np.testing.assert_allclose(result, wanted, rtol=1e-6)  # the same kernels, another call path
            with pytest.raises(Exception, match="64"):  # the range of the dynamic size is still checked
                runner.run({"x": np.zeros((65, 3), np.float32), "scale": scale})
    torch.export.load(again)  # what edgekit wrote is one of torch's files


def test_example_inputs_are_not_loaded(saved: Path, tmp_path: Path, marker: Path) -> None:
    trap = io.BytesIO()
    torch.save(Trap(marker), trap)
    path = tmp_path / "net.pt2"
    path.write_bytes(packed({**members(saved), "data/sample_inputs/model.pt": trap.getvalue()}))
    tried(path)
    assert load_program(path).example_inputs is None
    assert not marker.exists()
    with contextlib.suppress(Exception):  # torch's own loader opens the trap, and then misses example inputs
        torch.export.load(path)
    assert marker.exists()


def test_an_archive_with_two_directories(saved: Path, tmp_path: Path, marker: Path) -> None:
    """Python reads the harmless members, torch those of the directory at the stated place."""
    trap = io.BytesIO()
    torch.save(Trap(marker), trap)
    content = members(saved)
    sample = "data/sample_inputs/model.pt"
    pad = len(trap.getvalue()) - len(content[sample])
    evil = packed({**content, sample: trap.getvalue(), "extra/pad": b"p" * 5000})
    good = packed({**content, "extra/pad": b"p" * (5000 + pad)})
    assert len(evil) == len(good)
    count, size, place = struct.unpack("<H2I", evil[-12:-2])
    path = tmp_path / "net.pt2"
    path.write_bytes(
        evil[:-22] + good[:-22] + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, place, 0)
    )
    assert members(path)[sample] == content[sample]
    assert torch._C.PyTorchFileReader(str(path)).get_record(sample) == trap.getvalue()
    with pytest.raises(ModelError, match="not an archive that is safe to open"):
        open_artifact(path)
    with pytest.raises(ModelError, match="not an archive that is safe to open"):
        load_program(path)
    assert not marker.exists()


def command(document: Document, marker: Path) -> None:
    graph(document)["nodes"].append(call("torch.os.system", {"": {"as_string": f"touch {marker}"}}))


def passed_on(document: Document, marker: Path) -> None:
    graph(document)["nodes"].append(
        call(
            "torch.ops.higher_order.wrap_with_set_grad_enabled",
            {"a": {"as_bool": False}},
            {"b": {"as_operator": "torch.os.system"}},
            {"c": {"as_string": f"touch {marker}"}},
        )
    )


def guards(document: Document, marker: Path) -> None:
    document["guards_code"] = [f"__import__('os').system('touch {marker}') or True"]


def imported(document: Document, marker: Path) -> None:
    signature = document["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(signature["out_spec"])
    spec[1] = {"type": "builtins.dict", "children_spec": [spec[1]],
               "context": json.dumps([{"__enum__": True, "fqn": "evilmodule:Kind", "name": "x"}])}  # fmt: skip
    signature["out_spec"] = json.dumps(spec)


def default_factory(document: Document, marker: Path) -> None:
    signature = document["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(signature["out_spec"])
    context = {"default_factory_module": "evilmodule", "default_factory_name": "Kind", "dict_context": ["y"]}
    spec[1] = {"type": "collections.defaultdict", "children_spec": [spec[1]], "context": context}
    signature["out_spec"] = json.dumps(spec)


def argument_name(document: Document, marker: Path) -> None:
    signature = document["graph_module"]["module_call_graph"][0]["signature"]
    signature["forward_arg_names"] = [f"x=__import__('os').system('touch {marker}')", "scale"]


def keyword_name(document: Document, marker: Path) -> None:
    renamed(document, "scale", f"scale=__import__('os').system('touch {marker}')")


def size(document: Document, marker: Path) -> None:
    value = graph(document)["tensor_values"]["x"]["sizes"][0]
    value["as_expr"]["expr_str"] = f"__import__('os').system('touch {marker}')"


def mapped_file(document: Document, marker: Path) -> None:
    """A shared mapping of a file that is written to: any file of the user, with any content."""
    nodes = graph(document)["nodes"]
    output = {"as_tensor": {"name": "added"}}
    graph(document)["tensor_values"]["added"] = dict(graph(document)["tensor_values"]["b_seen"])
    made = call("torch.ops.aten.from_file.default", {"filename": {"as_string": str(marker)}},
                {"shared": {"as_bool": True}}, {"size": {"as_int": 2}}, output=output)  # fmt: skip
    nodes.insert(0, made)


def saved_by_script(document: Document, marker: Path) -> None:
    graph(document)["nodes"].append(
        call(
            "torch.ops.aten.save.default",
            {"item": {"as_tensor": {"name": "x"}}},
            {"filename": {"as_string": str(marker)}},
        )
    )


def library(document: Document, marker: Path) -> None:
    graph(document)["nodes"].append(call("torch.ops.load_library", {"": {"as_string": str(marker)}}))


ATTACKS: dict[str, tuple[Callable[[Document, Path], None], str]] = {
    "a function of Python": (command, "it calls 'torch.os.system'"),
    "a function of Python given to an operator": (passed_on, "it calls 'torch.os.system'"),
    "a structure that imports a module": (imported, "which could run code"),
    "a structure with a default": (default_factory, "tuples, lists and dicts are read"),
    "the name of an argument": (argument_name, "is not allowed there"),
    "the name of a keyword": (keyword_name, "is not allowed there"),
    "a size": (size, "is not arithmetic"),
    "a mapped file": (mapped_file, "it calls 'torch.ops.aten.from_file.default'"),
    "a saved file": (saved_by_script, "it calls 'torch.ops.aten.save.default'"),
    "a library": (library, "it calls 'torch.ops.load_library'"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_field_of_a_program_can_run_code(attack: str, saved: Path, tmp_path: Path, marker: Path) -> None:
    change, words = ATTACKS[attack]
    path = changed(saved, tmp_path / "net.pt2", lambda document: change(document, marker))
    with pytest.raises(ModelError, match=r"models/model\.json") as refusal:
        tried(path)
    assert words in str(refusal.value)
    assert not marker.exists()


def test_guards_are_left_out(saved: Path, tmp_path: Path, marker: Path) -> None:
    tried(changed(saved, tmp_path / "net.pt2", lambda document: guards(document, marker)))
    assert not marker.exists()


@pytest.mark.parametrize("old", ["lin.weight", "seen", "fixed"])
def test_the_name_of_a_weight_is_not_code(old: str, saved: Path, tmp_path: Path, marker: Path) -> None:
    """torch writes the name into source code, between quotes."""
    new = f'a"); getattr(__import__("os"), "system")("touch {marker}"); getattr(self, "a'
    content = members(saved)
    for member in [name for name in content if name.endswith(".json")]:
        content[member] = content[member].replace(json.dumps(old).encode(), json.dumps(new).encode())
    path = tmp_path / "net.pt2"
    path.write_bytes(packed(content))
    with pytest.raises(ModelError, match="is not allowed there"):
        tried(path)
    assert not marker.exists()


@pytest.mark.parametrize("new", ["y; import os", "x\n", "self", "torch", "lambda", "", "\uff54orch", "a.b"])
def test_the_name_of_a_value_is_a_name(new: str, saved: Path, tmp_path: Path) -> None:
    path = changed(saved, tmp_path / "net.pt2", lambda document: renamed(document, "linear", new))
    with pytest.raises(ModelError, match="is not allowed there"):
        load_program(path)


def pickled(document: Document) -> None:
    document["config"]["lin.weight"]["use_pickle"] = True


def elsewhere(document: Document) -> None:
    document["config"]["lin.weight"]["path_name"] = "../../models/model.json"


def missing(document: Document) -> None:
    document["config"]["lin.weight"]["path_name"] = "weight_77"


def negative(document: Document) -> None:
    document["config"]["lin.weight"]["tensor_meta"]["sizes"][0] = {"as_int": -1}


def endless(document: Document) -> None:
    meta = document["config"]["lin.weight"]["tensor_meta"]
    meta["sizes"], meta["strides"] = [{"as_int": 1 << 40}], [{"as_int": 0}]


WEIGHTS = {
    "pickled": (pickled, ModelError, "is a pickle"),
    "elsewhere": (elsewhere, ModelError, "is not allowed there"),
    "missing": (missing, ModelError, "which is not there"),
    "negative": (negative, ModelError, "not numbers from 0"),
    "endless": (endless, LimitError, "EDGEKIT_LIMIT_ARRAY_BYTES"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_are_bare_numbers_of_the_archive(case: str, saved: Path, tmp_path: Path) -> None:
    change, error, words = WEIGHTS[case]
    path = changed(saved, tmp_path / "net.pt2", change, "data/weights/model_weights_config.json")
    with pytest.raises(error, match=words):
        load_program(path)


@pytest.mark.parametrize(
    "name",
    [
        "data/weights/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/aotinductor/model/m.so",
        "models/other.json",
        "evil.py",
        "extra/folder/file",
    ],
)
def test_a_member_that_a_program_does_not_need_is_refused(name: str, saved: Path, tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(packed({**members(saved), name: pickle.dumps(Trap(marker))}))
    with pytest.raises(ModelError, match="which an exported program does not need"):
        tried(path)
    assert not marker.exists()


def test_archives_that_are_not_of_torch(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    content = members(saved)
    cases = {
        "without an exported program": packed(
            {name: data for name, data in content.items() if "model.json" not in name}
        ),
        "little-endian": packed({**content, "byteorder": b"big"}),
        "archive_version is not a number": packed({**content, "archive_version": b"one"}),
        "cannot be read as JSON": packed({**content, "models/model.json": b"{"}),
        "nested too deeply": packed({**content, "models/model.json": b"[" * 100_000}),
        "a dict was expected": packed({**content, "models/model.json": b"[]"}),
        "has no 'graph_module'": packed({**content, "models/model.json": b"{}"}),
        "in 2 folders": packed(content).replace(b"net/byteorder", b"two/byteorder"),
        "does not accept it": packed({**content, "archive_version": b"77"}),
    }
    for words, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(ModelError, match=words):
            load_program(path)


def test_computed_sizes_are_bounded(saved: Path, tmp_path: Path) -> None:
    """``9 ** 9 ** 9`` as operators, one after the other: Python's integers have no largest one."""

    def tower(document: Document) -> None:
        values, nodes = graph(document)["sym_int_values"], graph(document)["nodes"]
        given: Document = {"as_int": 9}
        for k in range(3):
            name = f"power_{k}"
            values[name] = {"as_int": 9}
            nodes.append(
                call(
                    "_operator.pow",
                    {"a": given},
                    {"b": {"as_int": 60}},
                    name=name,
                    output={"as_sym_int": {"as_name": name}},
                )
            )
            given = {"as_sym_int": {"as_name": name}}

    with pytest.raises(ModelError, match="larger than 4,096 bits"):
        load_program(changed(saved, tmp_path / "net.pt2", tower))


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


def test_no_file_of_the_work_is_left(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = len(os.listdir("/proc/self/fd"))
    load_program(saved)
    with pytest.raises(InputError):
        load_program(tmp_path)
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before
