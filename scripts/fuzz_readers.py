"""Every reader of edgekit as scripts/fuzz calls it: a path in, anything or an EdgekitError out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from fuzz_bytes import Mutator
from fuzz_formats import mutate_card, mutator_of

from edgekit.environments import TFLM
from edgekit.errors import EdgekitError

SECONDS = 5.0
"""What one input may take."""


@dataclass(frozen=True)
class Reader:
    """One kind of input.

    Attributes:
        open: reads the main file of an input, or its folder.
        main: how the name of the main file begins; a dot where it is the folder.
        seeds: folder of the corpus, where it is not called like the reader.
        mutator: name of a file -> what changes it.
        weight: how often its turn comes.
        seconds: what one input may take.
        starts: it may start programs (the worker that runs a model).
        bytes_only: edgekit is given the bytes of the file: there is never a FIFO or a folder in its place.
        planted: it is not one of edgekit's, and is not tried on good files first.
        needs: package without which there are no seeds.
    """

    open: Callable[[Path], object]
    main: str
    seeds: str = ""
    mutator: Callable[[str], Mutator] = field(default=mutator_of)
    weight: int = 8
    seconds: float = SECONDS
    starts: bool = False
    bytes_only: bool = False
    planted: bool = False
    needs: str = ""


def every(calls: Iterable[Callable[[], object]]) -> None:
    """All of the calls; the first EdgekitError is raised when all were made."""
    first: EdgekitError | None = None
    for call in calls:
        try:
            call()
        except EdgekitError as error:
            first = first or error
    if first is not None:
        raise first


# ---------------------------------------------------------------- models


def inspect(path: Path) -> None:
    """In this process alone: :func:`inspect_apart` lets it try a .tflite file on a microcontroller."""
    os.environ[TFLM.variable] = str(path)
    try:
        inspect_apart(path)
    finally:
        del os.environ[TFLM.variable]


def inspect_apart(path: Path) -> None:
    import edgekit
    from edgekit.report.document import dumps

    dumps(edgekit.inspect(path).document())


def pt2(path: Path) -> None:
    every((lambda: inspect(path), lambda: source(path)))


def source(path: Path) -> object:
    from edgekit.source import resolve

    return resolve(str(path))


def hf(path: Path) -> object:
    from edgekit.source import resolve

    return resolve(f"hf:{path}")


def card(path: Path) -> None:
    """All that a card decides: what it is printed as, how inputs are made of files, which ranges quantize takes."""
    from edgekit.artifact import card_to_json, open_artifact
    from edgekit.data.preprocess import sample_feed
    from edgekit.data.seeded import seeded_feed
    from edgekit.pipeline.learned_ranges import learned_in
    from edgekit.report.document import dumps

    artifact = open_artifact(path)
    found = artifact.card
    if found is None:
        return
    given = next((path.parent / "input").iterdir())
    calls: list[Callable[[], object]] = [
        lambda: dumps(card_to_json(found)),
        lambda: str([str(rule) for rule in found.contract.values()]),
        lambda: learned_in(artifact),
        lambda: sample_feed(str(given), found.signature, found.contract),
        lambda: seeded_feed(found.signature, found.contract, 0),
    ]
    every(calls)


def in_a_worker(path: Path) -> None:
    """The bare runtime, behind the process that keeps its crashes away; one run on seeded values of modest size."""
    from edgekit.data.seeded import seeded_feed
    from edgekit.devices import open_runner

    with open_runner(path, timeout_s=10, memory_limit_bytes=4 << 30) as runner:
        sizes = [np.prod(spec.resolved(), dtype=np.float64) for spec in runner.signature.inputs]
        if sum(sizes) <= 1 << 22:
            contract = {} if runner.artifact.card is None else runner.artifact.card.contract
            runner.run(seeded_feed(runner.signature, contract, 0))


# ---------------------------------------------------------------- data


def npz(path: Path) -> None:
    from edgekit.data import open_data

    every((lambda: open_data(f"npz:{path}@train"), lambda: npy(path)))


def npy(path: Path) -> object:
    from edgekit.data.preprocess import sample_feed
    from edgekit.types import Signature, TensorSpec

    return sample_feed(str(path), Signature((TensorSpec("inputs", "float32", (1, 6)),), ()), {})


def wav(path: Path) -> None:
    from edgekit.data.audio import measure
    from edgekit.data.dataset import Dataset
    from edgekit.data.wav import read_wav

    recordings: Any = [read_wav(path)]
    measure(Dataset("a", "all", "audio", {"audio": recordings}))


def image(path: Path) -> None:
    from edgekit.data.pixels import encode, read
    from edgekit.types import InputSpec

    encode([read(str(path))], InputSpec("image", "NCHW", (32, 32), 3, mean=(0.5,) * 3, std=(0.5,) * 3))


def data(kind: str, *, one: bool = False) -> Callable[[Path], None]:
    """The reader of ``kind:PATH``, both splits and their samples; ``one``: also as the input of one run."""

    def whole(spec: str, default: str) -> None:
        from edgekit.data import open_data

        found = open_data(spec, default_split=default)
        for samples in found.arrays.values():
            for index in range(min(len(samples), 8)):
                samples[index]
        answers = found.answers or ()
        for index in range(min(len(answers), 8)):
            answers[index]

    def single(path: Path) -> None:
        from edgekit import registry

        known = registry.lookup("kinds", kind)
        known.read(str(path))
        if known.columns is not None:
            known.columns(str(path))

    def read(path: Path) -> None:
        if path.suffix == ".txt":
            return single(path)
        calls = [lambda: whole(f"{kind}:{path}@test", "test"), lambda: whole(f"{kind}:{path}", "train")]
        return every([*calls, lambda: single(path)] if one else calls)

    return read


# ---------------------------------------------------------------- documents and state


def recipe(path: Path) -> None:
    import edgekit
    from edgekit.report.document import dumps

    dumps(edgekit.recipe.show(path, out=path.parent / "runs").document())


def devices(path: Path) -> None:
    from edgekit.devices.device import parse_device
    from edgekit.devices.inventory import saved

    os.environ["XDG_CONFIG_HOME"] = str(path.parent.parent)
    every([lambda name=name: parse_device(name) for name in saved()])  # type: ignore[misc]


def bench(path: Path) -> None:
    import edgekit
    from edgekit.options.bench import BenchOptions
    from edgekit.pipeline.bench.replay import read_replay
    from edgekit.report.document import dumps
    from edgekit.report.page import page
    from edgekit.results.saved import read_result

    other = path.parent / "other.json"

    def compare(a: Path, b: Path) -> None:
        dumps(edgekit.compare(a, b, fail_slower=5).document())

    every(
        (
            lambda: compare(path, other),
            lambda: compare(other, path),
            lambda: read_replay(BenchOptions(replay=path)),
            lambda: page([read_result(path)]),
        )
    )


def calibration(path: Path) -> None:
    import edgekit
    from edgekit.quantization.calibrate.calibration import Calibration
    from edgekit.report.document import dumps

    dumps(Calibration.load(path).document())
    dumps(edgekit.inspect(path).document())


def plan(path: Path) -> None:
    from edgekit.artifact import open_artifact
    from edgekit.pipeline.quantize.mixed import load_plan, reasons
    from edgekit.report.document import dumps

    found = load_plan(path, open_artifact(path.parent / "mlp.onnx"), "int8")
    dumps(found.document())
    reasons(found)


def frames(path: Path) -> None:
    from edgekit.devices.protocol import decode
    from edgekit.errors import ProtocolError

    whole = path.read_bytes()
    place = 0

    def read(count: int) -> bytearray:
        nonlocal place
        if count > len(whole) - place:
            raise ProtocolError("the program ended within a frame")
        place += count
        return bytearray(whole[place - count : place])

    decode(read)


def tool(path: Path) -> None:
    from edgekit.bench.tools import tool_of

    tool_of(path.name).read(path.read_bytes().decode("utf-8", "replace"))


def state(path: Path) -> None:
    """What edgekit keeps between runs; another program may have written into it."""
    {"run": _journal, "trials": _trials, "record": _record, "training": _training}[path.stem](path)


def _journal(path: Path) -> None:
    from edgekit.pipeline.bench.journal import Journal

    journal = Journal(path, {"models": ["a.onnx"]}, resume=True)
    journal.close()


def _trials(path: Path) -> None:
    from edgekit.leftovers import scratch_folder
    from edgekit.pipeline.search.space import Space
    from edgekit.pipeline.search.study import JOURNAL, SamplerChoice, Study

    with scratch_folder() as folder:
        (folder / JOURNAL).write_bytes(path.read_bytes())
        Study(folder, {}, Space({"onnx": ("int8", "fp16")}), SamplerChoice("tpe", 0, 2)).rows()


def _record(path: Path) -> None:
    from edgekit.pipeline.recipe.state import STATE, Folder

    place = path.parent / STATE / path.name
    place.parent.mkdir()
    place.write_bytes(path.read_bytes())
    folder, unit = Folder(path.parent), cast(Any, SimpleNamespace(title=path.stem))
    try:
        folder.why(folder.record(unit), {"command": "export"})
    finally:
        place.unlink()


def _training(path: Path) -> None:
    import torch

    from edgekit.models.resume import RunState

    module = torch.nn.Linear(3, 2)
    RunState(path, {"seed": 0}).load(module, torch.nn.Linear(3, 2), torch.optim.AdamW(module.parameters()))


def card_or_file(name: str) -> Mutator:
    """Of a model only the card changes, of an input beside it anything."""
    return mutate_card if name.startswith("model") else mutator_of(name)


READERS: dict[str, Reader] = {
    "onnx": Reader(inspect, "model.onnx", weight=16), "tflite": Reader(inspect, "model.tflite", weight=16),
    "pt2": Reader(pt2, "model.pt2", weight=12), "savedmodel": Reader(inspect, ".", weight=4, needs="tensorflow"),
    "pte": Reader(inspect, "model.pte", weight=12),
    "card": Reader(card, "model", mutator=card_or_file, weight=24),
    "checkpoint": Reader(source, "net.safetensors", weight=12),
    "checkpoint card": Reader(source, "net.safetensors", "checkpoint", lambda name: mutate_card, weight=12),
    "keras": Reader(source, "net.keras", weight=4, needs="keras"),
    "hf": Reader(hf, ".", weight=4, needs="transformers"), "npz": Reader(npz, "arrays.npz", weight=12),
    "npy": Reader(npy, "array.npy"), "wav": Reader(wav, "sound.wav"), "image": Reader(image, "photo", weight=16),
    "series": Reader(data("series", one=True), "series"), "table": Reader(data("table", one=True), "table.csv"),
    "text": Reader(data("text"), "text"), "images": Reader(data("images"), "data", weight=16),
    "coco": Reader(data("coco"), "instances"), "yolo": Reader(data("yolo"), "."),
    "audio": Reader(data("audio"), "data"), "recipe": Reader(recipe, "recipe.toml", weight=12),
    "devices": Reader(devices, "edgekit/devices.toml"), "bench": Reader(bench, "bench.json", weight=12),
    "calibration": Reader(calibration, "ranges.json"), "plan": Reader(plan, "plan.json"),
    "frames": Reader(frames, "reply.frame", bytes_only=True), "tool": Reader(tool, "", weight=4, bytes_only=True),
    "state": Reader(state, "", weight=12, bytes_only=True),
    "onnx in a worker": Reader(in_a_worker, "model.onnx", "onnx", weight=1, seconds=30, starts=True),
    "tflite in a worker": Reader(in_a_worker, "model.tflite", "tflite", weight=1, seconds=30, starts=True),
    "tflite on a microcontroller": Reader(
        inspect_apart, "model.tflite", "tflite", weight=1, seconds=30, starts=True
    ),
    "pt2 in a worker": Reader(in_a_worker, "model.pt2", "pt2", weight=1, seconds=30, starts=True),
}  # fmt: skip


def planted(spelled: str) -> Reader:
    """A reader from elsewhere, ``module:function``, on the corpus of tables: shows that faults are seen. Its attribute
    ``seconds`` is what one input may take."""
    module, _, function = spelled.partition(":")
    opens: Any = getattr(importlib.import_module(module), function)
    return Reader(opens, "table.csv", "table", seconds=getattr(opens, "seconds", SECONDS), planted=True)
