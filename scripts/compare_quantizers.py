"""Candidates under ``edgekit quantize``, measured in one interleaved run; see scripts/compare_quantizers."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from other_tools import ai_edge_quantizer_defaults, onnxruntime_defaults, onnxruntime_static

import edgekit
from edgekit.artifact import open_artifact
from edgekit.bench.compare import compare_paired
from edgekit.bench.session import InProcess, time_interleaved
from edgekit.data import Dataset, open_data
from edgekit.data.dataset import stratified
from edgekit.data.preprocess import feeds
from edgekit.data.seeded import seeded_feed
from edgekit.errors import EdgekitError
from edgekit.pipeline.quantize import CALIBRATION_SAMPLES
from edgekit.pipeline.schemes import quantize
from edgekit.quality.coverage import coverage
from edgekit.quality.evaluate import evaluate
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.runtime import load
from edgekit.types import Artifact, Format


@dataclass(frozen=True)
class Subject:
    """The float file, its calibration feeds and its test set."""

    artifact: Artifact
    data: str
    feeds: tuple[Any, ...]
    test: Dataset
    limit: int | None


def ours(subject: Subject, folder: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """edgekit's schemes, and its ways to calibrate."""
    suffix = subject.artifact.path.suffix
    schemes = ["int8", "int8-dynamic", "int8-weights", "fp16"]
    schemes += ["int16x8", "int4-weights"] if suffix == ".tflite" else []
    for scheme in schemes:
        for method in METHODS if scheme == "int8" else ("",):
            name = f"edgekit {scheme}{', ' + method if method else ''}"

            def made(target: Path, scheme: str = scheme, method: str = method) -> None:
                quantize(
                    subject.artifact.path,
                    scheme=scheme,
                    out=target,
                    data=subject.data,
                    calibration=method or None,
                    limit=1,
                    allow_slower=True,
                    seconds=0,
                )

            yield name, made


def onnxruntime_tools(subject: Subject) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """onnxruntime's own tools, from their defaults on."""
    from onnxruntime.quantization import QuantType

    def static(**options: Any) -> Callable[[Path], None]:
        return onnxruntime_static(subject.artifact.path, subject.feeds, **options)

    defaults, dynamic = onnxruntime_defaults(subject.artifact.path, subject.feeds)
    u8 = QuantType.QUInt8
    yield defaults
    yield "onnxruntime static, int8, per channel", static(per_channel=True)
    yield "onnxruntime static, uint8", static(activation_type=u8)
    yield "onnxruntime static, uint8, per channel", static(activation_type=u8, per_channel=True)
    yield (
        "onnxruntime static, uint8, per channel, 7 bit",
        static(activation_type=u8, per_channel=True, reduce_range=True),
    )
    yield dynamic


def nncf_tools(subject: Subject) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """NNCF for ONNX with its fast bias correction, where it is installed."""
    if importlib.util.find_spec("nncf") is None:
        return

    def made(preset: str, target: Path) -> None:
        import nncf  # type: ignore[import-not-found]
        import onnx

        chosen = nncf.QuantizationPreset(preset)
        samples = nncf.Dataset(subject.feeds, lambda feed: feed)
        model = nncf.quantize(
            onnx.load(str(subject.artifact.path)), samples, subset_size=CALIBRATION_SAMPLES, preset=chosen
        )
        onnx.save(model, str(target))

    for preset in ("performance", "mixed"):
        yield f"nncf, {preset}", partial(made, preset)


def candidates(subject: Subject, folder: Path) -> dict[str, Path]:
    """Every candidate that could be made; the others are told."""
    recipes = list(ours(subject, folder))
    if subject.artifact.format is Format.ONNX:
        recipes = [*onnxruntime_tools(subject), *nncf_tools(subject), *recipes]
    else:
        recipes = [*ai_edge_quantizer_defaults(subject.artifact.path, subject.feeds), *recipes]
    made = {"float": subject.artifact.path}
    for number, (name, make) in enumerate(recipes):
        target = folder / f"{number}{subject.artifact.path.suffix}"
        try:
            make(target)
        except EdgekitError as error:
            print(f"{name}: {error}")
            continue
        made[name] = target
    return made


def table(subject: Subject, made: dict[str, Path], seconds: float) -> list[str]:
    """Lines of a Markdown table: bytes, integer operators, accuracy, time relative to float."""
    card = subject.artifact.card
    with ExitStack() as stack:
        runners = {name: stack.enter_context(load(path)) for name, path in made.items()}
        feed = seeded_feed(runners["float"].signature, card.contract if card else {}, 0)
        cells = [[InProcess(runner.bare(feed))] for runner in runners.values()]
        session = time_interleaved(cells, seconds=seconds, seed=0)
        lines = [
            "| recipe | bytes | integer operators | accuracy | time, float = 1 (95%) |",
            "|---|---:|---:|---:|---:|",
        ]
        for place, (name, path) in enumerate(made.items()):
            compared = compare_paired(name, "float", session.taken[place].blocks, session.taken[0].blocks)
            counted = coverage(Artifact(path, subject.artifact.format))
            value = evaluate(runners[name], subject.test, card, limit=subject.limit).value
            ratio = "1" if place == 0 else f"{compared.ratio:.2f} ({compared.low:.2f}–{compared.high:.2f})"
            shown = f"{counted.integer_operators} of {counted.operators}"
            lines.append(f"| {name} | {path.stat().st_size:,} | {shown} | {100 * value:.2f}% | {ratio} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each candidate")
    given = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        if given.model is None:
            edgekit.export("cnn", to=["onnx", "tflite"], out=folder)
        for path in [given.model] if given.model else sorted(folder.glob("cnn.*")):
            artifact = open_artifact(path)
            with load(path) as runner:
                signature = runner.signature
            contract = artifact.card.contract if artifact.card else {}
            samples = stratified(open_data(f"{given.data}@train"), CALIBRATION_SAMPLES)
            gathered = tuple(feeds(samples, signature, contract))
            subject = Subject(artifact, given.data, gathered, open_data(f"{given.data}@test"), given.limit)
            print(
                f"\n{path.name}, {given.data}\n", *table(subject, candidates(subject, folder), given.seconds), sep="\n"
            )


if __name__ == "__main__":
    main()
