"""The good and the hostile files that scripts/fuzz starts from: ``fuzz_corpus.py FOLDER GROUP …`` makes them.

``FOLDER/READER/SEED/`` holds the files of one seed. Good seeds are what edgekit itself and the tools around it write, a
name that starts with ``hostile`` is of a file made to do harm. Nothing is downloaded.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import pickle
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_archives import Member, two_directories, write_zip
from fuzz_corpus_models import OUTSIDE, cards, checkpoints, foreign, graphs, lowered, made_models, programs

Files = Mapping[str, bytes]
Seeds = Iterator[tuple[str, str, Files]]
"""(reader, seed, files by name)"""


class Touch:
    """A pickle of it starts a program when it is opened."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch outside",)


def main(folder: Path, *groups: str) -> None:
    """Writes the seeds of ``groups``, names of functions in :data:`GROUPS`."""
    logging.getLogger("edgekit").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as work:
        for group in dict.fromkeys(GROUPS.values()):
            for reader, seed, files in group(Path(work)) if group.__name__ in groups else ():
                for name, content in files.items():
                    place = folder / reader / seed / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)


# ---------------------------------------------------------------- data


def tables(work: Path) -> Seeds:
    """Tables, series and labelled sentences."""
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'cat' if a > b else 'dog'}" for a, b in rng.normal(size=(40, 2))]
    table = "\n".join(["width,height,label", *rows, ""]).encode()
    yield "table", "plain", {"table.csv": table}
    times = [f"2020-01-{1 + k // 24:02d} {k % 24:02d}:00:00,{np.sin(k / 4):.4f},{k % 7}" for k in range(300)]
    series = "\n".join(["date,load,day", *times, ""]).encode()
    yield "series", "times", {"series.csv": series}
    yield "series", "plain", {"series.csv": _numbers(300)}
    yield "series", "packed", {"series.csv.gz": gzip.compress(series, mtime=0)}
    lines = [f"{'good' if k % 2 else 'bad'} film number {k}\t{k % 2}" for k in range(40)]
    yield "text", "plain", {"text.tsv": "\n".join([*lines, ""]).encode()}
    yield "text", "header", {"text.tsv": "\n".join(["label\tsentence", *("1\tfine", "0\tpoor") * 12]).encode()}
    yield "text", "sentence", {"text.txt": b"A film that is worth seeing."}


def _numbers(count: int) -> bytes:
    return "\n".join(f"{np.cos(k / 5):.4f},{k % 11}" for k in range(count)).encode()


def arrays(work: Path) -> Seeds:
    """.npz and .npy files, and frames of the worker's protocol."""
    from edgekit.devices.protocol import Message, encode

    values = {"inputs": np.arange(60, dtype=np.float32).reshape(10, 6), "labels": np.arange(10) % 2}
    savers: dict[str, Any] = {"plain": np.savez, "packed": np.savez_compressed}
    for name, save in savers.items():
        out = io.BytesIO()
        save(out, **values)
        yield "npz", name, {"arrays.npz": out.getvalue()}
    out = io.BytesIO()
    np.savez(out, inputs=np.array([Touch()], dtype=object))
    yield "npz", "hostile-pickle", {"arrays.npz": out.getvalue()}
    bare: dict[str, Any] = {"plain": values["inputs"], "wide": np.zeros((1, 3), ">i8"), "text": np.array(["a"])}
    for name, array in bare.items():
        out = io.BytesIO()
        np.save(out, array)
        yield "npy", name, {"array.npy": out.getvalue()}
    yield "npy", "hostile-pickle", {"array.npy": pickle.dumps(Touch(), 4)}
    answer = {"id": 3, "ok": True, "value": {"signature": {"inputs": [], "outputs": []}, "load_ns": 5}}
    for name, message in {
        "answer": Message(answer, {"samples_ns": np.arange(5), "y": np.ones((2, 3), np.float32)}),
        "error": Message({"id": 4, "ok": False, "error": {"class": "ModelError", "message": "no"}}),
    }.items():
        yield "frames", name, {"reply.frame": b"".join(bytes(part) for part in encode(message))}


def media(work: Path) -> Seeds:
    """Images of each format, the same suffix with another format inside, and recordings."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    picture, grey = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    for kind, image in {
        "PNG": picture,
        "JPEG": picture,
        "BMP": picture,
        "GIF": grey,
        "WEBP": picture,
        "PPM": picture,
    }.items():
        suffix = kind.lower().replace("jpeg", "jpg")
        yield "image", suffix, {f"photo.{suffix}": _saved(image, kind)}
    yield "image", "pgm", {"photo.pgm": _saved(grey, "PPM")}
    yield "image", "palette", {"photo.png": _saved(picture.quantize(16), "PNG")}
    yield "image", "wide", {"photo.png": _saved(Image.fromarray(pixels[..., 0].astype(np.uint16) * 200), "PNG")}
    for kind in ("EPS", "TIFF", "ICO", "TGA", "PCX", "PDF", "JPEG2000", "SGI"):
        yield "image", f"hostile-{kind.lower()}", {"photo.png": _saved(picture, kind)}
    sound = (np.sin(np.arange(4000) / 9) * 9000).astype("<i2")
    for name, channels, bits, coding in (("mono", 1, 16, 1), ("stereo", 2, 16, 1), ("float", 1, 32, 3)):
        samples = sound if bits == 16 else (sound / 32768).astype("<f4")
        yield "wav", name, {"sound.wav": _wav(samples.tobytes(), channels, bits, coding)}


def _saved(image: Any, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def _wav(data: bytes, channels: int, bits: int, coding: int) -> bytes:
    frame = channels * bits // 8
    words = (coding, channels, 8000, 8000 * frame, frame, bits)
    described = b"".join(n.to_bytes(s, "little") for n, s in zip(words, (2, 2, 4, 4, 2, 2), strict=True))
    body = (
        b"WAVEfmt "
        + len(described).to_bytes(4, "little")
        + described
        + b"data"
        + len(data).to_bytes(4, "little")
        + data
    )
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def archives(work: Path) -> Seeds:
    """Folders of images and recordings, packed in every way and plain; and archives that write elsewhere."""
    seeds = {(reader, name): files for reader, name, files in media(work)}
    photo, sound = seeds["image", "png"]["photo.png"], seeds["wav", "mono"]["sound.wav"]
    for reader, suffix, content in (("images", "png", photo), ("audio", "wav", sound)):
        tree = {f"data/{name}/{k}.{suffix}": content for name in ("cat", "dog") for k in range(2)}
        yield (
            reader,
            "zip",
            {"data.zip": write_zip([Member(n.encode(), c, zipfile.ZIP_DEFLATED) for n, c in tree.items()])},
        )
        for name, kind, end in (("tar-gz", "gz", "tar.gz"), ("tar", "", "tar"), ("hostile-xz", "xz", "tar")):
            yield reader, name, {f"data.{end}": _tar(tree, kind)}
        yield reader, "folder", tree
    yield "images", "hostile-up", {"data.zip": write_zip([Member(b"../../outside", photo), Member(b"/outside", photo)])}
    good = [Member(b"data/cat/1.png", photo), Member(b"data/dog/1.png", photo)]
    evil = [Member(b"data/cat/1.png", b"evil"), Member(b"data/dog/1.png", b"evil")]
    yield "images", "hostile-two-directories", {"data.zip": two_directories(evil, good)}
    yield "images", "hostile-overlap", {"data.zip": write_zip(good, again=[0] * 5000)}
    links = {"symlink": (tarfile.SYMTYPE, "../../.."), "absolute-symlink": (tarfile.SYMTYPE, "/")}
    links |= {"hard-link": (tarfile.LNKTYPE, "../../outside"), "device": (tarfile.CHRTYPE, "")}
    for name, (kind_, target) in links.items():
        link = tarfile.TarInfo("data/cat")
        link.type, link.linkname = kind_, target
        packed = _tar({"data/cat/outside": photo, "data/dog/1.png": photo}, "gz", link)
        yield "images", f"hostile-{name}", {"data.tar.gz": packed}


def boxes(work: Path) -> Seeds:
    """Pictures with boxes: COCO's file, which may name a picture elsewhere, and Ultralytics' folders."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(out, "PNG")
    pictures = dict.fromkeys(("images/a.png", "images/b.png"), out.getvalue())
    for name, file_name in (("plain", "a.png"), ("hostile-up", "../../outside")):
        names = (file_name, "b.png")  # two, so that there is a test part
        document = {
            "images": [{"id": k, "file_name": n, "height": 12, "width": 10} for k, n in enumerate(names, 1)],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3.5, 4], "iscrowd": 0}],
            "categories": [{"id": 3, "name": "cat"}],
        }
        yield "coco", name, {"instances.json": json.dumps(document).encode(), **pictures}
    text = b"0 0.5 0.5 0.2 0.3\n1 0.1 0.1 0.3 0.1 0.3 0.2\n"
    tree = {**pictures, "labels/a.txt": text}
    yield "yolo", "plain", {**tree, "labels.txt": b"cat\ndog\n"}
    yield "yolo", "yaml", {**tree, "data.yaml": b"names:\n  0: cat\n  1: dog\n"}


def _tar(tree: Files, kind: str, first: tarfile.TarInfo | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
        if first is not None:
            archive.addfile(first)
        for name, content in tree.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


# ---------------------------------------------------------------- documents and state


def documents(work: Path) -> Seeds:
    """Recipes, saved devices, what timing programs print."""
    from edgekit.models.family import RECIPES

    for name in ("mlp", "gan", "autoencoder", "cnn"):
        text = (RECIPES / f"{name}.toml").read_bytes().replace(b'"cifar10"', b'"digits"')  # nothing is downloaded
        yield "recipe", name, {"recipe.toml": text}
    small = 'source = "net.py:build"\n\n[[step]]\ndo = "export"\nto = ["onnx"]\n\n[[step]]\ndo = "bench"\nseconds = 1\n'
    yield "recipe", "hostile-factory", {"recipe.toml": small.encode(), "net.py": OUTSIDE.encode()}
    saved = {"pi": "ssh://pi@192.168.1.7", "arm": "emulator:cortex-a72", '"my.phone"': "adb:R58"}
    devices = "\n".join(f'[{name}]\naddress = "{address}"\n' for name, address in saved.items())
    yield "devices", "three", {"edgekit/devices.toml": devices.encode()}
    said = (
        "INFO: Replacing 3 out of 4 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions.\n"
        "count=120 first=55 curr=50 min=48 max=90 avg=51.5 std=3 p5=49 median=51 p95=60\n"
        "Inference timings in us: Init: 900, First inference: 80, Warmup (avg): 55.1, Inference (avg): 51.5\n"
        "Overall peak memory footprint (MB) via periodic monitoring: 12.5\n"
    )
    yield "tool", "benchmark_model", {"benchmark_model.txt": said.encode()}
    perf = "Session creation time cost: 0.01 s\nFirst inference time cost: 1 ms\nTotal inference requests: 900\n"
    perf += "Average inference time cost: 0.5 ms\nMin Latency: 0.0004 s\nP50 Latency: 0.0005 s\nP99 Latency: 0.0009 s\n"
    yield "tool", "onnxruntime_perf_test", {"onnxruntime_perf_test.txt": perf.encode()}


def results(work: Path) -> Seeds:
    """Results of the bench, calibrations, plans of mixed precision."""
    models = made_models(work)
    bench = _slim((models / "bench.json").read_bytes())
    yield "bench", "three", {"bench.json": bench, "other.json": bench.replace(b'"threads": 1', b'"threads": 1 ')}
    for format_ in ("onnx", "tflite"):
        yield "calibration", format_, {"ranges.json": (models / f"ranges-{format_}.json").read_bytes()}
    yield "plan", "onnx", {name: (models / name).read_bytes() for name in ("plan.json", "mlp.onnx")}


def _slim(text: bytes) -> bytes:
    """A bench document with 200 samples a cell at most: what is mutated is its structure."""
    document = json.loads(text)
    for entry in document["results"]:
        sizes = [min(size, 10) for size in entry["blocks"]]
        entry["blocks"], entry["samples_ns"] = sizes, entry["samples_ns"][: sum(sizes)]
    return json.dumps(document, indent=2).encode()


def state(work: Path) -> Seeds:
    """What edgekit itself keeps between runs: journals, trials, records of recipes, training."""
    from edgekit.bench.clock import WarmupRule
    from edgekit.bench.schedule import BlockPlan
    from edgekit.bench.session import TakenBlock
    from edgekit.pipeline.bench.journal import Journal
    from edgekit.pipeline.search.space import Space
    from edgekit.pipeline.search.study import JOURNAL, SamplerChoice, Study
    from edgekit.results.optimize import TrialRow

    path = work / "run.part"
    journal = Journal(path, {"models": ["a.onnx"]})
    part = journal.part("cpu", [0], [{"model": "a.onnx"}])
    part.begin(BlockPlan(4, 1000, 2000, 1, WarmupRule(1, 1000, 1000)))
    for place in range(4):
        part.keep(0, place, TakenBlock(np.arange(1, 6) * 100, "worker", False))
    journal.close()
    yield "state", "journal", {"run.part": path.read_bytes()}
    study = Study(work / "study", {}, Space({"onnx": ("int8", "fp16")}), SamplerChoice("tpe", 0, 2))
    claim = study.claim(1)
    assert claim is not None
    row = TrialRow(number=claim.number, name="onnx int8", parameters={}, state="failed", why="no")
    study.tell(claim, None, row, 0.0)
    yield "state", "trials", {"trials.log": (work / "study" / JOURNAL).read_bytes()}
    record = {"key": "k", "parts": {}, "file": "a.onnx", "sha256": "0" * 64, "document": {}, "seconds": 1.5}
    yield "state", "record", {"record.json": json.dumps(record).encode()}
    yield "state", "training", {"training.safetensors": _training(work)}


def _training(work: Path) -> bytes:
    import torch

    from edgekit.models.resume import RunState

    module = torch.nn.Linear(3, 2)
    run = RunState(work / "run.safetensors", {"seed": 0})
    run.remember(1, 0.5, module)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    run.save(1, module, module, optimizer)
    return (work / "run.safetensors").read_bytes()


GROUPS: Mapping[str, Callable[[Path], Seeds]] = {
    **dict.fromkeys(("table", "series", "text"), tables), **dict.fromkeys(("npz", "npy", "frames"), arrays),
    **dict.fromkeys(("image", "wav"), media), **dict.fromkeys(("images", "audio"), archives),
    **dict.fromkeys(("coco", "yolo"), boxes),
    **dict.fromkeys(("recipe", "devices", "tool"), documents),
    **dict.fromkeys(("bench", "calibration", "plan"), results), "state": state, "onnx": graphs, "tflite": graphs,
    "pt2": programs, "pte": lowered, "card": cards, "checkpoint": checkpoints,
    **dict.fromkeys(("hf", "keras", "savedmodel"), foreign),
}  # fmt: skip
"""Folder of seeds -> what makes them."""

if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
