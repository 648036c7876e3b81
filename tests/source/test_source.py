"""What the user types becomes a network, or one clear message with what to do next."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit import registry
from edgekit.errors import InputError, LimitError, ModelError, SourceError, WorkerTimeoutError
from edgekit.runtime.torch import TorchModuleRunner
from edgekit.source import Source, resolve
from edgekit.source.assemble import assemble
from edgekit.types import Network

pytestmark = pytest.mark.usefixtures("kept_workers")

PRELUDE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(6, 3)
    def forward(self, a, b):
        h = self.left(a) + self.right(b)
        return h, h.softmax(-1)

class One(nn.Module):
    example_inputs = torch.zeros(1, 4)
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
    def forward(self, x):
        return self.layer(x)
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes ``net.py`` with the prelude and ``body``; gives its spelling as a source with the factory ``make``."""

    def written(body: str, factory: str = "make", prelude: str = PRELUDE) -> str:
        path = tmp_path / "net.py"
        path.write_text(prelude + body)
        return f"{path}:{factory}"

    return written


def names(specs: object) -> list[str]:
    return [str(spec) for spec in specs]  # type: ignore[attr-defined]


def test_a_factory_with_a_tuple_of_inputs(write: Write) -> None:
    network = resolve(write("def make():\n    return Net(), (torch.zeros(1, 4), torch.zeros(1, 6))\n"))
    assert network.name == "make"
    assert names(network.signature.inputs) == ["a: float32[1, 4]", "b: float32[1, 6]"]
    assert names(network.signature.outputs) == ["output_0: float32[1, 3]", "output_1: float32[1, 3]"]
    assert not network.module.training
    assert network.card.config["factory"].endswith("net.py:make")
    assert len(network.card.config["sha256"]) == 64
    assert len(network.card.source_sha256) == 64


def test_a_dict_of_inputs_goes_by_argument_name_and_keeps_its_order(write: Write) -> None:
    network = resolve(write('def make():\n    return Net(), {"b": torch.ones(1, 6), "a": torch.zeros(1, 4)}\n'))
    assert names(network.signature.inputs) == ["b: float32[1, 6]", "a: float32[1, 4]"]
    feed = {"a": np.full((1, 4), 2, np.float32), "b": np.full((1, 6), -1, np.float32)}
    got = TorchModuleRunner(network.module, network.signature).run(feed)
    own = network.module.module
    with torch.no_grad():
        wanted, _ = own(torch.from_numpy(feed["a"]), torch.from_numpy(feed["b"]))
    assert np.array_equal(got["output_0"], wanted.numpy())


def test_nested_inputs_and_dict_outputs_are_flattened_and_named(write: Write) -> None:
    body = """
class Nested(nn.Module):
    def forward(self, pair, *, state, scale=2.0):
        x = (pair[0] + pair[1]) * scale
        return {"x": x, "hidden": [state["h"] + 1, x.sum()]}

def make():
    return Nested(), {"pair": (torch.zeros(1, 2), torch.ones(1, 2)), "state": {"h": torch.zeros(3)}}
"""
    network = resolve(write(body))
    assert [spec.name for spec in network.signature.inputs] == ["pair_0", "pair_1", "state_h"]
    assert [spec.name for spec in network.signature.outputs] == ["x", "hidden_0", "hidden_1"]
    got = TorchModuleRunner(network.module, network.signature).run(network.example_inputs)
    assert np.array_equal(got["x"], [[2.0, 2.0]])
    assert np.array_equal(got["hidden_0"], [1.0, 1.0, 1.0])


def test_an_output_named_like_an_input_gets_another_name(write: Write) -> None:
    body = 'class Same(One):\n    def forward(self, x):\n        return {"x": self.layer(x)}\nmake = Same\n'
    network = resolve(write(body))
    assert [spec.name for spec in network.signature.outputs] == ["x_out"]


@pytest.mark.parametrize(
    "body", ["make = One\n", "make = One()\n", "def make():\n    return [One(), torch.zeros(1, 4).numpy()]\n"]
)
def test_a_class_a_module_and_numpy_inputs_will_do(write: Write, body: str) -> None:
    assert names(resolve(write(body)).signature.inputs) == ["x: float32[1, 4]"]


def test_a_file_may_import_its_neighbours(write: Write, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    body = "from neighbour import WIDTH\ndef make():\n    return nn.Linear(WIDTH, 1), torch.zeros(1, WIDTH)\n"
    assert resolve(write(body)).signature.inputs[0].shape == (1, 5)


def test_a_package_and_its_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    package = tmp_path / "mypack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(PRELUDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("mypack.nets:One").name == "One"
    with pytest.raises(SourceError, match=r"no module is called 'mypack\.net'.*mypack/net\.py:factory"):
        resolve("mypack.net:One")


def test_random_weights_are_the_same_every_time(write: Write) -> None:
    spelled = write("def make():\n    return One(), torch.zeros(1, 4)\n")
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, second = resolve(spelled), resolve(spelled)
    assert first.card.source_sha256 == second.card.source_sha256
    assert torch.equal(torch.get_rng_state(), before)


def test_the_name_can_be_given(write: Write) -> None:
    assert resolve(write("make = One\n"), name="mine").name == "mine"


RAISES = "def make():\n    return helper()\n\ndef helper():\n    raise RuntimeError('no weights today')\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (RAISES, r"net\.py:\d+ in helper: RuntimeError: no weights today"),
        ("def make():\n    import sys\n    sys.exit(3)\n", r"net\.py:\d+ in make: SystemExit: 3"),
        ("import nowhere_to_be_found\n", r"importing .*net\.py:\d+ in <module>: ModuleNotFoundError"),
        ("def make(:\n", r"net\.py:\d+: SyntaxError"),
        ("def make():\n    return 7\n", r"gave a int, a torch\.nn\.Module was expected"),
        ("def make():\n    return nn.Linear(2, 2)\n", r"without example inputs.*forward\(input\).*torch\.zeros"),
        ("def make(width):\n    return nn.Linear(width, 2)\n", "needs arguments.*'width'.*wrap it"),
        ("make = 3\n", "is a int; a factory is a function"),
        ("def made():\n    pass\n", "no 'make'; did you mean 'made'"),
        ("def make():\n    return One(), torch.zeros(1, 9)\n", r"raises on its own example inputs \(shapes \(1, 9\)\)"),
        ("def make():\n    return One(), 'x'\n", "hold no tensor"),
        ("class N(One):\n    def forward(self, x):\n        return 1\nmake = N\n", "gave a int without a tensor"),
        ("def make():\n    return One().bfloat16(), torch.zeros(1, 4).bfloat16()\n", "BFloat16|bfloat16"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(write: Write, body: str, said: str) -> None:
    import ml_dtypes  # noqa: F401  # registers bfloat16 with numpy, as any exporter does

    with pytest.raises(SourceError, match=f"(?s){said}"):
        resolve(write(body))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("cn", SourceError, "did you mean 'cnn'.*mlp"),
        ("banana", SourceError, "no network is called 'banana'.*the zoo has: mlp, cnn"),
        (
            "weights.pth",
            SourceError,
            r"file\.py:factory --weights weights\.pth.*torch\.export\.save",
        ),
        ("weights.pt", SourceError, "is a pickle"),
        ("model.onnx", ModelError, "does not exist"),
        ("model.tflite", SourceError, "finished model file.*edgekit verify"),
        ("missing.py:make", SourceError, "does not exist"),
        ("missing.safetensors", ModelError, "does not exist"),
        ("missing.pt2", ModelError, "does not exist"),
        ("model.keras", SourceError, "does not exist"),
    ],
)
def test_what_cannot_be_had_is_said(text: str, error: type[InputError], said: str) -> None:
    with pytest.raises(error, match=f"(?s){said}"):
        resolve(text)


class Ones(Source):
    """A kind of source of another package."""

    form = "ones:WIDTH"
    prefixed = True

    def resolve(self, text: str) -> Network:
        width = int(text)
        return assemble(torch.nn.Linear(width, 1), (torch.ones(1, width),), {}, "ones", {}, f"ones:{text}")


def test_another_package_can_add_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("ones", f"{__name__}:Ones", "edgekit.sources")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Ones)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "edgekit.sources" else [])
    assert resolve("ones:7").signature.inputs[0].shape == (1, 7)
    with pytest.raises(SourceError, match=r"A source is .*ones:WIDTH"):
        resolve("banana")


def test_a_file_without_a_factory_lists_what_is_in_it(write: Write, tmp_path: Path) -> None:
    write("def make():\n    raise SystemExit  # never run\n")
    with pytest.raises(SourceError, match=r"no factory.*net\.py:Net, .*net\.py:make"):
        resolve(str(tmp_path / "net.py"))


def saved(tmp_path: Path, dynamic: bool = False) -> Path:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    shapes = ({0: torch.export.Dim("n")},) if dynamic else None
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=shapes)
    path = tmp_path / "model.pt2"
    torch.export.save(program, path)
    return path


def test_a_pt2_program_is_a_network(tmp_path: Path) -> None:
    network = resolve(str(saved(tmp_path)))
    assert names(network.signature.inputs) == ["input: float32[2, 4]"]
    x = np.ones((2, 4), np.float32)
    torch.manual_seed(0)
    wanted = torch.nn.Linear(4, 3)(torch.from_numpy(x)).relu().detach().numpy()
    got = TorchModuleRunner(network.module, network.signature).run({"input": x})
    assert np.allclose(got["output"], wanted, atol=1e-6)  # the same kernels, another call path


def test_dynamic_sizes_of_a_program_stay_dynamic(tmp_path: Path) -> None:
    network = resolve(str(saved(tmp_path, dynamic=True)))
    assert network.signature.inputs[0].shape == ("batch", 4)


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, change(name, data))


def test_example_inputs_of_a_program_are_made_not_unpickled(tmp_path: Path) -> None:
    path, marker = saved(tmp_path), tmp_path / "ran"
    trap = io.BytesIO()
    torch.save(Trap(marker), trap)

    def change(name: str, data: bytes) -> bytes:
        return trap.getvalue() if "sample_inputs" in name else data

    rewritten(path, change)
    network = resolve(str(path))
    assert network.example_inputs["input"].shape == (2, 4)
    assert not marker.exists()
    torch.load(io.BytesIO(trap.getvalue()), weights_only=False)  # the trap is a real one
    assert marker.exists()


class Looks(torch.nn.Module):
    """tokens (n, 5), mask (n, 5), None -> (n, 5, 2)"""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(7, 2)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, none: None = None) -> torch.Tensor:
        return self.table(tokens) * mask.unsqueeze(-1)


def test_example_integers_of_a_program_are_valid_indices(tmp_path: Path) -> None:
    given = (torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64))
    torch.export.save(torch.export.export(Looks(), given, {"none": None}), tmp_path / "m.pt2")
    examples = resolve(str(tmp_path / "m.pt2")).example_inputs
    assert (examples["tokens"].max(), examples["tokens"].min()) == (6, 1)
    assert examples["mask"].tolist() == [[1, 1, 1, 1, 1]]


def test_a_program_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)

    def change(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            config = json.loads(data)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return pickle.dumps(Trap(tmp_path / "ran")) if name.endswith("weight_0") else data

    rewritten(path, change)
    with pytest.raises(ModelError, match="pickle"):
        resolve(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_program_may_not_ask_for_any_amount_of_memory(tmp_path: Path) -> None:
    """40 GB of zeros, in a file of 7 kB: refused before anything runs."""

    class Greedy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.zeros(200_000, 50_000).sum()

    torch.export.save(torch.export.export(Greedy(), (torch.zeros(2),)), tmp_path / "greedy.pt2")
    with pytest.raises(LimitError, match=r"greedy.pt2: aten.zeros.*40,000,000,000 bytes.*EDGEKIT_LIMIT_VALUE_BYTES"):
        resolve(str(tmp_path / "greedy.pt2"))


class Halved(torch.nn.Module):
    """Halves its input until ``enough`` says so."""

    def __init__(self, enough: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.enough = enough

    def forward(self, x: torch.Tensor) -> Any:
        from torch._higher_order_ops import while_loop

        return while_loop(lambda y: ~self.enough(y), lambda y: (y * 0.5,), (x,))[0]


def halved(path: Path, enough: Callable[[torch.Tensor], torch.Tensor]) -> str:
    torch.export.save(torch.export.export(Halved(enough), (torch.ones(1, 4),)), path)
    return str(path)


def test_a_program_that_loops_for_ever_ends_in_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process nothing could end it."""
    monkeypatch.setenv("EDGEKIT_LIMIT_ANSWER_SECONDS", "5")
    path = halved(tmp_path / "endless.pt2", lambda y: (y.sum() != y.sum()).all())
    with pytest.raises(WorkerTimeoutError, match=r"'run' within 5 s.*EDGEKIT_LIMIT_ANSWER_SECONDS"):
        resolve(path)


def test_a_program_that_loops_and_ends_is_a_network(tmp_path: Path) -> None:
    network = resolve(halved(tmp_path / "good.pt2", lambda y: (y < 0.3).all()))
    got = TorchModuleRunner(network.module, network.signature).run({"x": np.full((1, 4), 0.9, np.float32)})
    (output,) = got.values()
    assert output == pytest.approx(np.full((1, 4), 0.225), abs=1e-7)  # 0.9, 0.45, 0.225
