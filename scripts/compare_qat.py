"""int8 files of a network as it is, trained further, and trained further with --qat; see scripts/compare_qat."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edgekit.pipeline.export import export
from edgekit.pipeline.finetune import finetune
from edgekit.pipeline.schemes import quantize

FORMATS = ("onnx", "tflite")


def figures(source: str, data: str, folder: Path, limit: int | None) -> list[str]:
    """Quality of the float network (in ONNX) and of its int8 file in each format."""
    found: list[float] = []
    for artifact in (row.artifact for row in export(source, to=FORMATS, out=folder).artifacts):
        made = quantize(
            artifact.path, scheme="int8", data=data, out=folder / f"int8{artifact.path.suffix}", limit=limit, seconds=0
        )
        assert made.before is not None and made.after is not None  # the data has labels
        found += [made.before.value, made.after.value] if not found else [made.after.value]
        ranges = made.step.params["calibration"]["method"]
        print(f"  {made.artifact.path}: {made.after.value:.5f}, ranges {ranges}")
    return [f"{value:.5g}" for value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", metavar="SOURCE:DATA:EPOCHS")
    parser.add_argument("--limit", type=int, help="measure on the first N test samples")
    parser.add_argument("--keep", type=Path, help="leave the files there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for case in given.cases:
            source, data, epochs = case.rsplit(":", 2)
            folder = (given.keep or Path(temporary)) / Path(source).stem.replace(":", "-")
            folder.mkdir(parents=True, exist_ok=True)
            rows = {"as it is": source}
            for name, qat in (("trained further", False), ("--qat", True)):
                out = folder / f"{'qat' if qat else 'further'}.safetensors"
                finetune(source, data=data, epochs=int(epochs), qat=qat, out=out)
                rows[name] = str(out)
            for name, one in rows.items():
                place = folder / name.strip("-").replace(" ", "-")
                place.mkdir(exist_ok=True)
                print(
                    f"| {Path(source).stem} | {name} | {' | '.join(figures(one, data, place, given.limit))} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
