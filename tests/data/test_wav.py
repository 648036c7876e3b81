"""WAV files of every coding that is read, and those that are not."""

import os
import random
import struct

import numpy as np
import pytest

from edgekit.data.audio import encode
from edgekit.data.logmel import speech
from edgekit.data.wav import read_wav
from edgekit.errors import DataError, LimitError
from edgekit.types import InputSpec

RAMP = np.array([-1.0, -0.5, 0.0, 0.25, 0.5])  # exact in every coding
SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")  # the end of every KSDATAFORMAT_SUBTYPE of a plain coding


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_as_the_standard_library_writes_it(sounds, tmp_path, bits):
    wave = read_wav(sounds.write_wav(tmp_path / "a.wav", RAMP, 16000, bits))
    assert (wave.rate, wave.channels, wave.samples.dtype) == (16000, 1, np.float32)
    np.testing.assert_array_equal(wave.samples, RAMP)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats(sounds, bits):
    body = RAMP.astype(f"<f{bits // 8}").tobytes()
    wave = read_wav(sounds.riff(sounds.described(3, bits=bits), (b"fact", b"\0" * 4), (b"data", body)))
    np.testing.assert_array_equal(wave.samples, RAMP)


@pytest.mark.parametrize("bits", [16, 24])
def test_the_extensible_header(sounds, bits):
    extra = struct.pack("<HHIH", 22, bits, 4, 1) + SUBFORMAT
    head = sounds.described(0xFFFE, bits=bits, extra=extra)
    wave = read_wav(sounds.riff(head, (b"LIST", b"odd"), (b"data", sounds.pcm(RAMP, bits))))
    np.testing.assert_array_equal(wave.samples, RAMP)


def test_channels_are_averaged(sounds, tmp_path):
    both = np.stack([RAMP, np.zeros(5)], 1)
    wave = read_wav(sounds.write_wav(tmp_path / "stereo.wav", both))
    assert wave.channels == 2
    np.testing.assert_array_equal(wave.samples, RAMP / 2)


def test_a_length_that_was_not_known_yet_is_the_rest_of_the_file(sounds):
    content = sounds.riff(sounds.described(), (b"data", sounds.pcm(RAMP, 16)))
    place = content.index(b"data") + 4
    piped = content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :]
    np.testing.assert_array_equal(read_wav(piped).samples, RAMP)


def test_files_that_are_refused(sounds, tmp_path):
    good = sounds.write_wav(tmp_path / "good.wav", RAMP).read_bytes()
    nan = np.array([0, np.nan], "<f4").tobytes()
    for content, words in (
        (b"", r"is empty \(0 bytes\)"),
        (good[:10], "not a WAV file"),
        (b"ID3" + b"\0" * 40, "it is MP3; convert it"),
        (b"fLaC" + b"\0" * 40, "it is FLAC"),
        (good[:14], "ends before its description"),
        (good[:36], "ends before its data"),
        (good[:-3], "cut short: 10 bytes of sound were expected, 7 are there"),
        (sounds.riff(sounds.described(), (b"data", b"")), r"no sound \(0 samples\)"),
        (sounds.riff(sounds.described(), (b"data", b"\1")), "no sound"),
        (sounds.riff((b"data", b"\0\0"), sounds.described()), "before the chunk that describes them"),
        (sounds.riff((b"fmt ", b"\1\0"), (b"data", b"\0\0")), "2 bytes, 16 or more"),
        (sounds.riff(sounds.described(7, bits=8), (b"data", b"\0\0")), "coding 7 with 8 bits"),
        (sounds.riff(sounds.described(1, bits=12), (b"data", b"\0\0")), "coding 1 with 12 bits"),
        (sounds.riff(sounds.described(rate=0), (b"data", b"\0\0")), "at 0 Hz"),
        (sounds.riff(sounds.described(channels=0), (b"data", b"\0\0")), "0 channels"),
        (sounds.riff(sounds.described(3, bits=32), (b"data", nan)), "NaN or infinite"),
    ):
        with pytest.raises(DataError, match=words):
            read_wav(content)
    with pytest.raises(DataError, match="does not exist; give the path of a"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(DataError, match="is a folder, only regular files are read"):
        read_wav(tmp_path)


def test_limits(sounds, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="ends before its data"):
        read_wav(sounds.riff(sounds.described(), *[(b"junk", b"")] * 2000, (b"data", b"\0\0")))
    file = sounds.write_wav(tmp_path / "good.wav", RAMP)
    for name in ("AUDIO_SAMPLES", "SAMPLE_BYTES"):
        monkeypatch.setenv(f"EDGEKIT_LIMIT_{name}", "4")
        with pytest.raises(LimitError, match=f"EDGEKIT_LIMIT_{name}"):
            read_wav(file)
        monkeypatch.delenv(f"EDGEKIT_LIMIT_{name}")
    os.mkfifo(tmp_path / "fifo.wav")
    with pytest.raises(DataError, match="is a FIFO"):
        read_wav(tmp_path / "fifo.wav")


@pytest.mark.parametrize(("coding", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_damage_is_a_data_error(sounds, coding, bits):
    dice = random.Random(bits)
    whole = sounds.riff(sounds.described(coding, bits=bits, rate=8000), (b"data", bytes(range(240)) * 10))
    features = {**speech(8000).params(), "frames": 8}
    rule = InputSpec("audio", mean=(0.0,) * 40, std=(1.0,) * 40, params=features)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(60)] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        cut = dice.randrange(len(data)) if dice.random() < 0.2 else len(data)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # samples near the largest float32
                encode([read_wav(bytes(data[:cut]))], rule)
        except DataError:
            refused += 1
    assert refused > 0  # else nothing was damaged
