"""All shipped networks, float and int8, TFLite and ONNX: what they compute on an emulated ARM core and on this machine.

    scripts/verify_on_arm [FAMILY...] [--on emulator:cortex-a72] [--out FOLDER]

Each file is made here, run here and there on the same inputs (``edgekit verify FILE --against FILE --on DEVICE``), and
its card's self-test is replayed there. A float file has to agree to 1e-4 of its outputs' scale, an integer file to the
tolerance of its own self-test: a few steps of the quantization, since kernels of other cores round elsewhere.
Files that are in FOLDER already are used as they are. Exit code 1 when one differs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import edgekit
from edgekit import registry
from edgekit.artifact import open_artifact
from edgekit.errors import DeviceError, EdgekitError, InputError, QualityError
from edgekit.models.family import family

SCHEMES = ("int8", "int8-dynamic", "int8-weights")
"""Integer schemes in the order they are tried: recurrent layers are not taken by static int8 in every format."""


@dataclass(frozen=True)
class Row:
    """One file. ``largest`` is None where it could not be made or run."""

    network: str
    format: str
    scheme: str
    runtime: str
    largest: float | None
    allowed: float | None
    passed: bool
    said: str = ""

    def line(self) -> str:
        gap = "" if self.largest is None else f"{self.largest:10.3g}"
        room = "" if self.allowed is None else f"{self.allowed:10.3g}"
        word = "same" if self.passed else "DIFFERS"
        head = f"{self.network:12} {self.format:7} {self.scheme:13} {self.runtime:12} {gap:>10} {room:>10}"
        return f"{head}  {word} {self.said}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    parser.add_argument("--on", default="emulator:cortex-a72")
    parser.add_argument("--format", action="append", choices=("tflite", "onnx"), help="default: both")
    parser.add_argument("--out", type=Path, default=Path("runs/arm"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    print(f"{'network':12} {'format':7} {'scheme':13} {'runtime':12} {'largest':>10} {'allowed':>10}", flush=True)
    for name in options.families or registry.names("families"):
        for format_ in options.format or ("tflite", "onnx"):
            for integer in (False, True):
                rows.append(check(name, format_, integer, options.out, options.on))
                print(rows[-1].line(), flush=True)
    failed = [row for row in rows if not row.passed]
    print(f"{len(rows) - len(failed)} of {len(rows)} files compute on {options.on} what they compute here")
    return 1 if failed else 0


def check(name: str, format_: str, integer: bool, out: Path, device: str) -> Row:
    """One file made and compared; an error becomes a row that failed."""
    scheme = "float"
    try:
        path, scheme = made(name, format_, integer, out)
        card = open_artifact(path).card
        assert card is not None and card.selftest is not None, path  # edgekit's own files have both
        allowed = card.selftest.tolerance if integer else None
        found = edgekit.verify(path, against=path, tolerance=allowed, on=device)
    except (DeviceError, InputError, QualityError) as error:
        return Row(name, format_, scheme, "", None, None, False, f"{type(error).__name__}: {error}")
    replayed = found.selftest is None or found.selftest.passed
    said = "" if replayed else "and fails its self-test"
    return Row(name, format_, scheme, found.runtime, found.ledger.max_abs, allowed, found.passed and replayed, said)


def made(name: str, format_: str, integer: bool, out: Path) -> tuple[Path, str]:
    """The float file, or the first integer one of :data:`SCHEMES` that the network takes; its path and scheme."""
    path = out / f"{name}.{format_}"
    if not path.exists():
        edgekit.export(name, to=[format_], out=out, name=name)
    if not integer:
        return path, "float"
    refused: EdgekitError | None = None
    for scheme in SCHEMES:
        target = out / f"{name}-{scheme}.{format_}"
        try:
            if not target.exists():
                edgekit.quantize(
                    path, scheme=scheme, out=target, data=family(name).data, limit=100, samples=100, seconds=0
                )
            return target, scheme
        except (InputError, QualityError) as error:
            refused = error
            logging.getLogger("edgekit").info("%s: %s: %s", name, scheme, error)
    assert refused is not None  # SCHEMES is not empty
    raise refused


if __name__ == "__main__":
    sys.exit(main())
