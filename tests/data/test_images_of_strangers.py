"""Image files that are not what they say: other formats, more pixels than their bytes, damage of every kind."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgekit.data.images import FORMATS, decode
from edgekit.data.preprocess import apply_contract
from edgekit.errors import DataError, LimitError
from edgekit.types import InputSpec


def packed(form, size=(16, 12), mode="RGB", **options):
    out = io.BytesIO()
    Image.new(mode, size).save(out, form, **options)
    return out.getvalue()


def test_no_other_program_is_started(tmp_path, monkeypatch):
    marker, fake = tmp_path / "started", tmp_path / "bin" / "gs"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho gs 10.0\ntouch {marker}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for again
    (tmp_path / "a.png").write_bytes(packed("EPS"))
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image: it is not one of JPEG, PNG"):
        decode(tmp_path / "a.png")
    assert not marker.exists()


@pytest.mark.parametrize("form", ["TIFF", "ICO", "PDF", "PCX", "TGA"])
def test_formats_that_are_not_listed_are_refused(form):
    with pytest.raises(DataError, match="not one of"):
        decode(packed(form))


@pytest.mark.parametrize("form", FORMATS)
def test_the_formats_that_are_listed_are_read_whatever_the_file_is_called(tmp_path, form):
    (tmp_path / "a.jpg").write_bytes(packed(form))
    assert decode(tmp_path / "a.jpg").shape == (12, 16, 3)


def test_pixels_are_counted_before_they_are_decoded(monkeypatch):
    many = packed("PNG", (30_000, 2_000), "1")
    with pytest.raises(LimitError, match=r"60,000,000 pixels.*EDGEKIT_LIMIT_IMAGE_PIXELS"):
        decode(many)
    monkeypatch.setenv("EDGEKIT_LIMIT_IMAGE_PIXELS", "100")
    with pytest.raises(LimitError):
        decode(packed("PNG"))


def test_a_limit_above_pillows_own_holds_and_pillows_is_kept(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(packed("PNG")).shape == (12, 16, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_the_scans_of_a_jpeg_are_counted():
    whole = packed("JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(LimitError, match=r"scans.*EDGEKIT_LIMIT_IMAGE_SCANS"):
        decode(whole[:-2] + last * 300 + b"\xff\xd9")


def test_only_regular_files_are_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.png")
    for name, what in (("a.png", "is a FIFO"), ("missing.png", "does not exist")):
        with pytest.raises(DataError, match=what):
            decode(tmp_path / name)
    with pytest.raises(DataError, match="is a folder"):
        decode(tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_a_data_error(form):
    dice = random.Random(form)
    whole = packed(form)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        cut = dice.randrange(len(data)) if dice.random() < 0.3 else len(data)
        try:
            decode(bytes(data[:cut]))
        except DataError:
            refused += 1
        except LimitError:
            refused += 1
    assert refused > 0  # else nothing was damaged


@pytest.mark.parametrize(
    ("side", "params"),
    [((1, 8000), {"shorter": 256}), ((9, 9), {"shorter": 30_000}), ((9, 9), {"shorter": 10**400}),
     ((9, 9), {"resize": (8000, 8000)})],
)  # fmt: skip
def test_what_is_resized_before_the_centre_is_cut_out_is_bounded(side, params):
    contract = InputSpec("image", "NCHW", (32, 32), 3, params=params)
    with pytest.raises(LimitError, match="IMAGE_PIXELS"):
        apply_contract([np.zeros((*side, 3), np.uint8)], contract)
    small = replace(contract, params={"shorter": 40})
    assert apply_contract([np.zeros((1, 8000, 3), np.uint8)], small).shape == (1, 3, 32, 32)
