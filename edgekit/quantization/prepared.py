"""A float file in the form that it is quantized from: made once, and handed on to all that asks what is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.flatbuffer_reader import input_names, without_prefix
from edgekit.graph import ops
from edgekit.passes import Pass, PassContext
from edgekit.quality.readings import Pair
from edgekit.quality.readings_onnx import OnnxPair
from edgekit.quality.readings_tflite import TflitePair
from edgekit.quantization.linear_graph import LinearGraph
from edgekit.quantization.onnx.linear_graph import LinearOnnx
from edgekit.quantization.onnx.prepare import prepared as prepared_onnx
from edgekit.quantization.tflite.linear_graph import LinearTflite
from edgekit.quantization.tflite.prepare import prepared as prepared_tflite
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.quantization.tflite.stateless import is_stateless
from edgekit.types import Artifact, Format


@dataclass(frozen=True, slots=True)
class Prepared:
    """A float file, and ``content``: what quantizers take of it, which computes the same with batch norms folded, one
    opset, and names of its own."""

    artifact: Artifact
    content: bytes

    def linear_graph(self) -> LinearGraph:
        """The file taken apart, to be changed and saved as one that can be prepared in its turn."""
        if self.artifact.format is Format.TFLITE:
            return LinearTflite(self.artifact.path)
        import onnx

        return LinearOnnx(onnx.load_from_string(self.content))

    def operators(self) -> tuple[Operator, ...]:
        """The operators of the main graph, in order."""
        layers = ops.layers(self.artifact.format)
        if self.artifact.format is Format.ONNX:
            import onnx

            nodes = onnx.load_from_string(self.content).graph.node
            return tuple(Operator(node.op_type, node.name, node.op_type in layers) for node in nodes)
        from edgekit.graph.tflite_editor import Editor

        graph = Editor(self.content).main()
        found = [(graph.kind(node), graph.name(node.outputs[0])) for node in graph.raw.operators]
        return tuple(Operator(kind, name, kind in layers) for kind, name in found)

    def input_tensors(self) -> dict[str, str]:
        """Name of an input's tensor, by which its range is known -> name of the input."""
        if self.artifact.format is Format.ONNX:
            import onnx

            return {value.name: value.name for value in onnx.load_from_string(self.content).graph.input}
        from edgekit.graph.tflite_editor import Editor

        graph = Editor(self.content).main()
        return {graph.name(number): name for number, name in input_names(self.content).items()}

    def context(self, target: Path) -> PassContext:
        """For a pass that quantizes the file into ``target``."""
        return PassContext(target, self.content)

    def float_form(self, quantizer: Pass) -> bytes:
        """The float file as ``quantizer`` rewrites it before it is quantized: it may change more."""
        if isinstance(quantizer, QuantizeTflite):
            return quantizer.float_form(self.content)
        return self.content

    def pair(self, made: Path, quantizer: Pass, folder: Path) -> Pair:
        """The file ``made`` by ``quantizer`` beside :meth:`float_form`; ``folder`` can be written.

        The steps that let recurrent layers start every call from zeros, which no operator of the parent is beside, are
        left out of a file that has them: it is quantized once more without.
        """
        wanted = self.float_form(quantizer)
        if self.artifact.format is Format.ONNX:
            import onnx

            return OnnxPair(onnx.load_from_string(wanted), onnx.load(str(made)))
        if isinstance(quantizer, QuantizeTflite) and not quantizer.stateful and is_stateless(self.artifact.path):
            made = folder / "bare.tflite"
            replace(quantizer, stateful=True).apply(self.artifact, self.context(made))
        return TflitePair(wanted, without_prefix(made.read_bytes()))


def prepare(
    artifact: Artifact, *, between_integers: bool = False, integers_only: bool = False, keeps_state: bool = False
) -> Prepared:
    """The float ``.onnx`` or ``.tflite`` file in the form that it is quantized from.

    Args:
        between_integers: activations of the quantized file are to be integers.
        integers_only: the quantized file is to compute on integers throughout.
        keeps_state: its recurrent layers are to keep their state between calls.

    Raises:
        ModelError: it cannot be rewritten.
    """
    if artifact.format is Format.TFLITE:
        return Prepared(artifact, prepared_tflite(artifact.path, integers_only=integers_only, keeps_state=keeps_state))
    return Prepared(
        artifact, bytes(prepared_onnx(artifact.path, between_integers=between_integers).SerializeToString())
    )


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its type, its name (TFLite: of its first output), whether it multiplies matrices."""

    kind: str
    name: str
    layer: bool


def named(text: str, known: tuple[Operator, ...]) -> tuple[str, ...]:
    """Names out of a list with commas; an operator type in it stands for all operators of that type."""
    given = [name.strip() for name in text.split(",") if name.strip()]
    spread = ([one.name for one in known if one.kind == name] or [name] for name in given)
    return tuple(dict.fromkeys(name for names in spread for name in names))


def check_names(names: frozenset[str], known: tuple[Operator, ...]) -> None:
    """Raises UsageError for names that no operator has."""
    unknown = sorted(names - {one.name for one in known})
    if unknown:
        layers = ", ".join(one.name for one in known if one.layer)
        raise UsageError(f"no operator is called {', '.join(unknown)}; layers of this file: {layers}")
