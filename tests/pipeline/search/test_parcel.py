"""An order that is made elsewhere: the same bytes, nothing made twice, and a difference is said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import DeviceError
from edgekit.pipeline.search.parcel import MadeStep, deliver, pack, received
from edgekit.pipeline.search.steps import MakeOrder, make

QUANTIZED = """
[[step]]
do = "quantize"
scheme = "{scheme}"
seconds = 0
allow-slower = true
min-snr = 1.0
name = "model"
"""


def recipe(subject: dict[str, Any], scheme: str) -> str:
    return f"""source = "{subject["source"]}"
data = "{subject["data"]}"

[[step]]
do = "finetune"
name = "tuned"
epochs = 1
seed = 0

[[step]]
do = "export"
name = "float"
to = "onnx"
{QUANTIZED.format(scheme=scheme)}"""


def test_made_elsewhere(subject: dict[str, Any], tmp_path: Path) -> None:
    """Two orders with a network in common, made here and made from copies in other places: the same files."""
    mine = tmp_path / "mine"
    shutil.copytree(Path(subject["source"]).parent, mine)
    subject = {"source": f"{mine}/net.py:make", "data": f"npz:{mine}/data.npz"}
    for number, scheme in enumerate(("int8", "int8-dynamic")):
        here = make(MakeOrder(recipe(subject, scheme), tmp_path / "here" / scheme, tmp_path / "here" / "store"))
        order = MakeOrder(recipe(subject, scheme), tmp_path / "back" / scheme, tmp_path / "back" / "store")
        parcel, contents = pack(order)
        assert [step.title for step in parcel.steps] == (["tuned.safetensors", "float.onnx"] if number else [])
        assert {Path(one.spelled).name for one in parcel.named} == {"net.py", "data.npz"}
        mine.rename(tmp_path / "away")  # what was sent is all there is
        delivery = deliver(parcel, contents.__getitem__, tmp_path / "there")
        (tmp_path / "away").rename(mine)
        assert not any((tmp_path / "there" / "work").iterdir())
        made = received(order, parcel, delivery, contents.__getitem__)
        assert here.path is not None and made.path is not None
        assert made.sha256 == here.sha256
        assert made.path.read_bytes() == here.path.read_bytes()
        assert str(tmp_path / "there").encode() not in made.path.read_bytes()

    step = parcel.steps[0]  # somebody else's torch
    parts = {**step.record.parts, "torch": "1.0"}
    other = replace(parcel, steps=(MadeStep(step.title, replace(step.record, parts=parts), step.files),))
    with pytest.raises(DeviceError, match=r"does not make what is made here \(tuned.safetensors: torch was 1.0"):
        deliver(other, contents.__getitem__, tmp_path / "there")
    shutil.rmtree(tmp_path / "back")
    with pytest.raises(DeviceError, match="install the same versions"):
        received(order, other, delivery, contents.__getitem__)


def test_a_folder_is_not_sent(subject: dict[str, Any], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    text = recipe({**subject, "data": f"images:{photos}@train"}, "int8")
    parcel, _ = pack(MakeOrder(text, tmp_path / "x", tmp_path / "store"))
    assert parcel.named[-1].files == {}
    photos.rmdir()
    with pytest.raises(DeviceError, match=r"does not see the folder .*photos: folders are not sent"):
        deliver(parcel, lambda digest: b"", tmp_path / "there")


def test_a_refusal_comes_back(subject: dict[str, Any], tmp_path: Path) -> None:
    """What its verb refuses, with the paths of this machine; what was made before stays."""
    text = recipe(subject, "int8").replace("min-snr = 1.0", "min-snr = 119.0")
    order = MakeOrder(text, tmp_path / "back", tmp_path / "store")
    parcel, contents = pack(order)
    made = received(order, parcel, deliver(parcel, contents.__getitem__, tmp_path / "there"), contents.__getitem__)
    assert made.path is None and made.exit_code == 1 and "119" in made.why
    assert [step.title for step in pack(order)[0].steps] == ["tuned.safetensors", "float.onnx"]
