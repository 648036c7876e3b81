"""The smallest part that cannot be converted is named with its cause, and the file that shows it does fail."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.errors import ConversionError
from edgekit.pipeline.export import export
from edgekit.quality import failing
from edgekit.quality.causes import explain

pytestmark = pytest.mark.usefixtures("kept_workers")

SOURCE = '''
import torch
from torch import nn

class Net(nn.Module):
    """stem -> block.inner -> head, where inner is what the factory puts there."""
    def __init__(self, inner, example=None):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.block = nn.Module()  # only a place for names: it is never called
        self.block.inner = inner
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.block.inner(self.stem(x)))

def made(inner):
    return Net(inner), torch.randn(2, 4)

class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x - 1

class Item(nn.Module):
    def forward(self, x):
        return x * x.mean().item()

class Mask(nn.Module):
    def forward(self, x):
        return x[x > -1000].reshape(x.shape)

class Median(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x, *, options=None):
        return self.scale * (x - torch.median(x, 1, keepdim=True)[0])

class Options:
    dim = 1

class Asked(nn.Module):
    """Gives Median an argument that cannot be written out."""
    def __init__(self):
        super().__init__()
        self.median = Median()

    def forward(self, x):
        return self.median(x, options=Options())

class Sort(nn.Module):
    def forward(self, x):
        return torch.sort(x, 1)[0]

class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.numpy() * 2)

class Complex(nn.Module):
    def forward(self, x):
        return torch.view_as_real(torch.view_as_complex(x.reshape(2, 2, 2)) * 1j).flatten(1)

class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = nn.EmbeddingBag(10, 4)

    def forward(self, x):
        return self.rows((x > 0).long()) + 0 * x

class Deep(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.ReLU(), Median())

branch = lambda: made(Branch())
item = lambda: made(Item())
mask = lambda: made(Mask())
asked = lambda: made(Asked())
sort = lambda: made(Sort())
numpy = lambda: made(Numpy())
bag = lambda: made(Bag())
deep = lambda: made(nn.Sequential(Deep(), nn.Tanh()))
'''


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("failing") / "nets.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def shown(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[str, Path]]:
    """``shown(factory, format)``: the message of an export that fails and the file that shows it, searched for once."""

    @functools.cache
    def once(factory: str, to: str) -> tuple[str, Path]:
        out = tmp_path_factory.mktemp("out")
        message = refused(networks, factory, to, out)
        (file,) = out.iterdir()
        return message, file

    return once


def refused(networks: Path, factory: str, to: str, out: Path, **options: object) -> str:
    """The message of an export that fails; nothing but the file that shows it lies in ``out``."""
    with pytest.raises(ConversionError) as caught:
        export(f"{networks}:{factory}", to=to, out=out, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    assert all(path.name.startswith("repro_") for path in out.glob("*"))
    return str(caught.value)


CASES = [
    ("branch", "onnx", "block.inner (Branch)", "data-dependent control flow", "GuardOnDataDependentSymNode"),
    pytest.param(
        "numpy", "onnx", "block.inner (Numpy)", "leaves torch", ".numpy() is not supported", marks=pytest.mark.slow
    ),
    ("deep", "onnx", "block.inner.0.2 (Median)", "unsupported operator aten.median", "No ONNX function found"),
    ("item", "tflite", "block.inner (Item)", "becomes a Python number", "ConcretizationTypeError"),
    pytest.param(
        "mask",
        "tflite",
        "block.inner (Mask)",
        "data-dependent shape",
        "NonConcreteBooleanIndexError",
        marks=pytest.mark.slow,
    ),
    ("deep", "tflite", "block.inner.0.2 (Median)", "unsupported operator aten.median.dim", "Lowering not found"),
    ("sort", "tflite", "block.inner (Sort)", "unsupported operator STABLEHLO_SORT", "cannot be run"),
    ("bag", "tflite", "block.inner.rows (EmbeddingBag)", "unsupported operator aten._embedding_bag", "Lowering"),
]


@pytest.mark.parametrize(("factory", "to", "part", "cause", "said"), CASES, ids=lambda value: str(value)[:12])
def test_the_smallest_part_is_named_with_its_cause(
    shown: Callable[[str, str], tuple[str, Path]], factory: str, to: str, part: str, cause: str, said: str
) -> None:
    message, repro = shown(factory, to)
    assert f"The smallest part that fails by itself: {part}. Cause: " in message
    assert cause in message
    assert said in message, "the tool's own first line stays"
    assert str(repro) in message
    assert repro.name == f"repro_{part.split()[0].replace('.', '_')}.py"
    compile(repro.read_text(), repro, "exec")


@pytest.mark.parametrize(
    ("factory", "to", "words", "ends"),
    [
        ("branch", "onnx", ("from nets import branch as factory", "torch.randn((2, 4))"), "data-dependent expression"),
        pytest.param(
            "asked",
            "onnx",
            ("register_forward_pre_hook",),
            "No ONNX function found for <OpOverload(op='aten.median'",
            marks=pytest.mark.slow,
        ),
        ("bag", "tflite", ("torch.nn.EmbeddingBag(10, 4", "Weights: random"), "Lowering not found: aten._embedding"),
        ("sort", "tflite", ("convert_alone('tflite'",), "no kernel for STABLEHLO_SORT"),
    ],
)
def test_the_file_that_shows_it_ends_with_the_same_error(
    shown: Callable[[str, str], tuple[str, Path]],
    tmp_path: Path,
    factory: str,
    to: str,
    words: tuple[str, ...],
    ends: str,
) -> None:
    """Run as a user would, in a process and a folder of its own."""
    _, repro = shown(factory, to)
    text = repro.read_text()
    assert all(word in text for word in words), text
    environment = {**os.environ, "LITERT_TORCH_SHOW_PROGRESS": "n"}
    done = subprocess.run(
        [sys.executable, str(repro)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert ends in done.stderr, done.stderr[-2000:]
    assert "runs in PyTorch" not in done.stderr, "the module itself must run: only the tool fails"


def test_a_network_that_only_fails_with_a_dynamic_axis_is_told_so(networks: Path, tmp_path: Path) -> None:
    path = tmp_path / "fixed.py"
    path.write_text(
        "import torch\nfrom torch import nn\nclass Fixed(nn.Module):\n    def forward(self, x):\n"
        "        return x.reshape(2, 4) * (1 if x.shape[0] == 2 else 2)\n"
        "def make():\n    return Fixed(), torch.zeros(2, 4)\n"
    )
    message = refused(path, "make", "onnx", tmp_path / "out", dynamic=["x:0=batch"])
    assert "With all sizes fixed, as its example inputs have them, it does convert" in message
    assert "leave that axis out" in message


def test_time_that_runs_out_is_said(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failing, "LIMIT_S", -1.0)
    monkeypatch.setattr(failing.smallest, "__defaults__", (-1.0,))
    message = refused(networks, "deep", "onnx", tmp_path)
    assert "the network as a whole" in message
    assert "The search ended before all parts were tried" in message


def test_parts_that_are_alike_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.adapter import adapt
    from edgekit.converters.base import Capture, ConversionOptions
    from edgekit.types import Card, Network, Task

    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

    class Last(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    module, examples, signature = adapt(nn.Sequential(*(Half() for _ in range(20)), Last()), (torch.ones(2, 3),), {})
    capture = Capture(Network(module, examples, Card("many", "custom", Task(), signature)), ConversionOptions())
    with pytest.raises(ConversionError) as caught:
        _ = capture.program
    found = failing.smallest(capture, caught.value)
    assert found is not None
    assert (found.part.name, found.tried, found.finished) == ("20", 3, True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("RuntimeError: Lowering not found: aten.complex.default", "unsupported operator"),
        ("NotImplementedError: Unsupported ir element type: complex<f32>", "complex dtype"),
        ("RuntimeError: view size is not compatible with input tensor's size and stride", "non-contiguous tensor"),
        ("RuntimeError: in-place operation mutated an input", "in-place mutation"),
        ("AssertionError: Please convert all Tensors to FakeTensors first", "constant outside of the module"),
        ("ValueError: something nobody has seen", "unknown"),
    ],
)
def test_texts_of_the_tools(text: str, kind: str) -> None:
    assert explain(text).kind == kind
