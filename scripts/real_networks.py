"""Networks that others trained, down the whole line by the command line; see scripts/real_networks."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import real_audio
import real_files
import real_page
import real_vision
from real_commands import Done, edgekit, openvino, python
from real_packages import unpacked
from real_subject import Arrays, Subject, aligned, decibels

from edgekit.bench.environment import environment

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = (*real_files.SUBJECTS, *real_audio.SUBJECTS, *real_vision.SUBJECTS)
SCHEMES = ("int8", "int8-weights")
PEERS = {"onnx": ("onnxruntime-static",), "tflite": ("ai-edge-static", "ai-edge-dynamic")}
FIGURES = ROOT / "docs" / "real-networks.json"
"""What was measured, kept so that single networks can be done again."""
DOCUMENT = ROOT / "docs" / "real-networks.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="networks to do again; all of them without any")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "packages", help="folder for fetched packages")
    parser.add_argument("--peers", action="store_true", help="also what other tools make of the same files and samples")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each file in bench")
    parser.add_argument("--prepare", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    subjects = {subject.name: subject for subject in SUBJECTS}
    if options.prepare:
        return _prepare(subjects[options.prepare[0]], *map(Path, options.prepare[1:]))
    unknown = set(options.names) - set(subjects)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(subjects)}")
    for name in options.names or subjects:
        work = ROOT / "runs" / "real-networks" / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        network = _network(subjects[name], options, work)
        known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {"networks": {}}
        known["networks"][name] = {**network, "date": datetime.date.today().isoformat(), "load": os.getloadavg()[0]}
        known["networks"] = {each: known["networks"][each] for each in subjects if each in known["networks"]}
        known["environment"] = environment()
        FIGURES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        text, held = real_page.page(known)
        DOCUMENT.write_text(text, encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}", file=sys.stderr)
    return 0 if held else 1


def _prepare(subject: Subject, package: Path, work: Path) -> int:
    """Samples and sources of a network, in a process of its own."""
    prepared = subject.prepare(package, work)
    for name in ("calibration", "test", "facts"):
        np.savez(work / f"{name}.npz", **getattr(prepared, name))
    if prepared.reference is not None:
        np.savez(work / "reference.npz", **prepared.reference)
    first = {name: values[0] for name, values in prepared.test.items()}
    np.savez(work / "one.npz", **first)
    (work / "sources.json").write_text(json.dumps({kind: str(place) for kind, place in prepared.sources.items()}))
    return 0


def _network(subject: Subject, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Figures of one network: its commands, and a row for each file."""
    print(subject.name, file=sys.stderr)
    package = unpacked(subject.requirement, options.cache)
    prepared = python("real_networks.py", "--prepare", subject.name, str(package), str(work))
    if prepared.code:
        raise RuntimeError(f"{subject.name} cannot be prepared: {prepared.reason}")
    sources = json.loads((work / "sources.json").read_text())
    commands = []
    if "torch" in sources:
        source = f"{ROOT / 'scripts' / 'real_torch.py'}:{sources['torch']}"
        formats = ("--to", "onnx", "--to", "tflite")
        done = edgekit("export", source, *formats, "--name", "float", "-o", work, package=package)
        commands.append({"command": "export", **done.document()})
        made = [(kind, work / f"float.{kind}") for kind in ("onnx", "tflite")]
        sources = {kind: str(path) for kind, path in made if path.is_file()}
    about = {"package": subject.requirement, "samples": subject.samples, "measure": subject.measure_name}
    rows = []
    for kind, path in sources.items():
        found, bench = _format(subject, Path(path), work, options)
        rows += [{"format": kind, **row} for row in found]
        commands.append({"command": f"bench {kind}", **bench.document()})
    return {**about, "bar": subject.bar, "commands": commands, "rows": rows}


def _format(
    subject: Subject, model: Path, work: Path, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], Done]:
    """Rows of one format: the float file, edgekit's files, the other tools'; and the command that timed them."""
    kind = model.suffix[1:]
    made: dict[str, tuple[Path, Done]] = {}
    for scheme in SCHEMES:
        target = work / f"{scheme}.{kind}"
        data = f"npz:{work / 'calibration.npz'}"
        options_of = subject.options.get(scheme, ())
        done = edgekit("quantize", model, "--scheme", scheme, *options_of, "--data", data, "-o", target)
        made[scheme] = (target, done)
    for peer in PEERS[kind] if options.peers else ():
        target = work / f"{peer}.{kind}"
        made[peer] = (target, python("real_peers.py", peer, str(model), str(work / "calibration.npz"), str(target)))
    files = [target for target, done in made.values() if done.code == 0]
    times = work / f"bench-{kind}.json"
    bench = edgekit(
        "bench", model, *files, "--input", work / "one.npz", "--seconds", options.seconds, "--fresh", "--json", times
    )
    measured = json.loads(times.read_text()) if times.is_file() else {"comparisons": [], "results": []}
    reference = _load(work / "reference.npz") if (work / "reference.npz").is_file() else None
    rows = [{"file": "float", "bytes": model.stat().st_size, **_answers(subject, model, work, reference)}]
    if reference is None:
        reference = _load(work / f"{model.stem}.{kind}.npz")
    for name, (target, done) in made.items():
        row = {"file": name, "options": " ".join(subject.options.get(name, ())), **done.document()}
        if done.code == 0:
            row |= {"bytes": target.stat().st_size, **_answers(subject, target, work, reference)}
            row |= _time(measured, model, target)
        row["wrong"] = real_page.faults(row, subject.bar)
        rows.append(row)
        print(f"  {kind} {name}: {json.dumps(row)[:400]}", file=sys.stderr)
    if options.peers:
        rows += _openvino(subject, model, work, reference)
    return rows, bench


def _openvino(subject: Subject, model: Path, work: Path, reference: Arrays) -> list[dict[str, Any]]:
    """NNCF's file in OpenVINO, its time relative to the float file there; no row where OpenVINO is not installed."""
    kind = model.suffix[1:]
    target, out, times = (work / f"openvino-{kind}{suffix}" for suffix in (".xml", ".npz", ".json"))
    samples = (str(work / "calibration.npz"), str(work / "test.npz"))
    done = openvino(str(model), *samples, str(target), str(out), str(times), subject.carry)
    if done is None:
        return []
    row = {"file": "NNCF in OpenVINO", **done.document(), "wrong": []}
    if done.code == 0:
        outputs = aligned(reference, _load(out))
        measured = subject.measure(reference, outputs, _load(work / "facts.npz"))
        row |= {"snr_db": decibels(reference, outputs), "measure": measured.value, "measured": measured.text}
        row |= {"bytes": sum(path.stat().st_size for path in (target, target.with_suffix(".bin")))}
        row |= json.loads(times.read_text())
    return [row]


def _answers(subject: Subject, model: Path, work: Path, reference: Arrays) -> dict[str, Any]:
    """Decibels and the network's measure of one file, by its outputs in the bare runtime."""
    target = work / f"{model.stem}{model.suffix}.npz"
    done = python("real_bare.py", str(model), str(work / "test.npz"), str(target), subject.carry)
    if done.code:
        return {"crash": done.reason}
    outputs = _load(target) if reference is None else aligned(reference, _load(target))
    expected = outputs if reference is None else reference
    measured = subject.measure(expected, outputs, _load(work / "facts.npz"))
    return {"snr_db": decibels(expected, outputs), "measure": measured.value, "measured": measured.text}


def _time(measured: dict[str, Any], parent: Path, target: Path) -> dict[str, Any]:
    for each in measured["comparisons"]:
        if Path(each["a"]).name == target.name and Path(each["b"]).name == parent.name:
            return {"time": each["ratio_p50"], "ci95": each["ci95"], "verdict": each["verdict"]}
    return {}


def _load(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


if __name__ == "__main__":
    sys.exit(main())
