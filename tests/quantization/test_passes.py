"""The base of the passes catches a pass that breaks a promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from edgekit.passes import Model, Pass, PassContext, PassError, fingerprint
from edgekit.types import Artifact, Format, Network, PassResult, Step


@dataclass(frozen=True)
class Doing(Pass):
    """A pass that does what a test says."""

    does: Callable[[Model, PassContext], Model]
    name: ClassVar[str] = "doing"

    def describe(self, model: Model) -> Step:
        return Step("doing")

    def apply(self, model: Model, context: PassContext) -> PassResult:
        return PassResult(self.does(model, context), True)


def run(does: Callable[[Model, PassContext], Model], model: Model, target: Path | None = None) -> PassResult:
    return Doing(does).run(model, PassContext(target))


def copied(model: Model, context: PassContext) -> Model:
    assert isinstance(model, Artifact)
    assert context.target is not None
    context.target.write_bytes(model.path.read_bytes())
    return Artifact(context.target, model.format)


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_an_honest_pass(files: Mapping[Format, Artifact], tmp_path: Path, format_: Format) -> None:
    artifact = files[format_]
    assert run(copied, artifact, tmp_path / f"a.{format_}").changed


def test_a_file_that_was_touched(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    original = tmp_path / "own.onnx"
    original.write_bytes(files[Format.ONNX].path.read_bytes())

    def touches(model: Model, context: PassContext) -> Model:
        result = copied(model, context)
        original.write_bytes(original.read_bytes() + b"\x72\x00")
        return result

    with pytest.raises(PassError, match="doing: it changed its input"):
        run(touches, Artifact(original, Format.ONNX), tmp_path / "a.onnx")


def test_a_signature_that_changed(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    import onnx

    def renames(model: Model, context: PassContext) -> Model:
        assert isinstance(model, Artifact)
        assert context.target is not None
        graph = onnx.load(str(model.path))
        graph.graph.node[-1].output[0] = graph.graph.output[0].name = "scores"
        onnx.save(graph, str(context.target))
        return Artifact(context.target, model.format)

    with pytest.raises(PassError, match=r"doing: the signature was .*logits.* became .*scores"):
        run(renames, files[Format.ONNX], tmp_path / "a.onnx")


def test_a_result_that_does_not_load(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    def breaks(model: Model, context: PassContext) -> Model:
        result = copied(model, context)
        assert isinstance(result, Artifact)
        result.path.write_bytes(result.path.read_bytes()[:-5000])
        return result

    with pytest.raises(PassError, match="doing: its result does not load"):
        run(breaks, files[Format.ONNX], tmp_path / "a.onnx")


def test_a_module_that_was_touched(network: Network) -> None:
    def touches(model: Model, _: PassContext) -> Model:
        assert isinstance(model, Network)
        with torch.no_grad():
            next(model.module.parameters()).add_(1)
        return model

    with pytest.raises(PassError, match="changed its input"):
        run(touches, network)


def test_a_module_with_other_classes(network: Network) -> None:
    def shrinks(model: Model, _: PassContext) -> Model:
        assert isinstance(model, Network)
        return replace(model, module=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 9)))

    with pytest.raises(PassError, match="the signature was"):
        run(shrinks, network)


def test_a_module_that_gives_nan(network: Network) -> None:
    def poisons(model: Model, _: PassContext) -> Model:
        assert isinstance(model, Network)
        layer = torch.nn.Linear(64, 10)
        torch.nn.init.constant_(layer.bias, float("nan"))
        return replace(model, module=torch.nn.Sequential(torch.nn.Flatten(), layer))

    with pytest.raises(PassError, match="NaN or infinity in logits"):
        run(poisons, network)


def test_the_fingerprint_sees_mode_and_weights(network: Network) -> None:
    before = fingerprint(network)
    assert fingerprint(network) == before
    network.module.train()
    assert fingerprint(network) != before
