"""Recordings become features of the spec's shape, whatever their rate, channels and length."""

import io
import logging
import tarfile

import numpy as np
import pytest

from edgekit.data import Dataset, batches, fsdd, open_data, sample_feed
from edgekit.data.audio import LEAST, encode, fitted, live, loud, loudest, measure, remarks
from edgekit.data.logmel import from_params, log_mel, speech
from edgekit.data.preprocess import apply_contract
from edgekit.data.resample import resample
from edgekit.data.wav import Waveform
from edgekit.errors import DataError
from edgekit.types import InputSpec, Signature, TensorSpec

FRAMES = 16
CONTRACT = InputSpec("audio", params={**speech(8000).params(), "frames": FRAMES, "pad": "front"})
LENGTH = speech(8000).samples(FRAMES)
SIGNATURE = Signature((TensorSpec("audio", "float32", (1, FRAMES, 40)),), (TensorSpec("y", "float32", (1, 2)),))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)


@pytest.fixture
def folder(sounds, tmp_path):
    for name, hz in (("low", 300.0), ("high", 2000.0)):
        for k in range(5):
            sounds.write_wav(tmp_path / "tones" / name / f"{k}.wav", sounds.tone(0.2, hz=hz + k))
    return tmp_path / "tones"


def test_a_short_recording_ends_the_window(sounds):
    wave = sounds.tone(0.1).astype(np.float32)
    (found,) = encode([wave], CONTRACT)
    whole = np.concatenate([np.zeros(LENGTH - wave.size), wave])
    np.testing.assert_allclose(found, log_mel(whole, speech(8000)), atol=1e-5)  # float32
    assert (found[0] == np.float32(np.log(1e-6))).all() and found[-1].max() > 0
    back = encode([wave], InputSpec("audio", params={**CONTRACT.params, "pad": "back"}))[0]
    assert back[0].max() > 0 and (back[-1] == np.float32(np.log(1e-6))).all()


def test_mean_and_deviation_are_those_of_each_band(sounds):
    wave = sounds.tone().astype(np.float32)
    plain = encode([wave], CONTRACT)
    mean, std = tuple(float(k) for k in range(40)), tuple(1.0 + k for k in range(40))
    scaled = InputSpec("audio", mean=mean, std=std, params=CONTRACT.params)
    expected = (plain - np.arange(40)) / np.arange(1, 41)
    np.testing.assert_allclose(encode([wave], scaled), expected, atol=1e-5)  # float32
    with pytest.raises(DataError, match="40 columns, the model was made for 3"):
        encode([wave], InputSpec("audio", mean=(0, 0, 0), std=(1, 1, 1), params=CONTRACT.params))


def test_how_loud_it_was_recorded_does_not_matter(sounds):
    wave = sounds.tone(0.1).astype(np.float32)
    peak = InputSpec("audio", params={**CONTRACT.params, "level": "peak"})
    as_is = np.abs(encode([wave], CONTRACT) - encode([wave / 8], CONTRACT)).max()
    assert as_is == pytest.approx(np.log(64), abs=1e-3)  # an eighth of the amplitude is a 64th of the power
    np.testing.assert_allclose(encode([wave / 8], peak), encode([wave], peak), atol=1e-4)  # float32, near the floor too
    assert (encode([np.zeros(800, np.float32)], peak) == np.float32(np.log(1e-6))).all()
    assert np.abs(loud(wave / 8)).max() == 1.0


def test_a_long_recording_gives_its_loudest_part():
    quiet = np.full(3000, 0.01)
    samples = np.concatenate([quiet, np.full(500, 1.0), quiet])
    part = loudest(samples, 1000)
    assert part.size == 1000 and part[-490:].min() == 1.0  # the first stretch that holds 98%: the word ends it
    np.testing.assert_array_equal(loudest(samples[:900], 1000), samples[:900])
    assert loudest(np.zeros(2000), 1000).size == 1000


@pytest.mark.parametrize(("rate", "length"), [(16000, 0.1), (44100, 0.1), (8000, 3.0), (22050, 3.0), (48000, 0.01)])
def test_always_as_long_as_the_frames(rate, length):
    wave = Waveform(np.random.default_rng(0).standard_normal(round(rate * length)).astype(np.float32), rate)
    assert fitted(wave, speech(8000), FRAMES).shape == (LENGTH,)


def test_another_rate_gives_nearly_the_same_features(sounds):
    at = {rate: Waveform(sounds.tone(0.2, rate).astype(np.float32), rate) for rate in (8000, 16000, 44100)}
    inner = slice(-9, -2)  # frames that hold neither end of the tone, where the filters ring
    own, *others = (encode([wave], CONTRACT)[0, inner] for wave in at.values())
    heard = own > np.log(1e-1)
    assert heard.sum() >= 30
    for other in others:
        np.testing.assert_allclose(other[heard], own[heard], atol=0.05)  # 0.2 dB
    wrong = encode([at[16000].samples], CONTRACT)[0, inner]  # taken for 8 kHz: an octave lower
    assert np.abs(wrong - own)[heard].max() > 1


def test_what_is_not_a_recording():
    for sample, words in (
        (np.zeros(0, np.float32), r"no sound \(0 samples\)"),
        (np.zeros((5, 2), np.float32), "average the channels"),
        (np.zeros(5, np.int16), "int16"),
    ):
        with pytest.raises(DataError, match=words):
            encode([sample], CONTRACT)
    for frames in (None, 0, "3"):
        with pytest.raises(DataError, match="1 or more were expected"):
            encode([np.ones(9)], InputSpec("audio", params={**CONTRACT.params, "frames": frames}))


def test_what_is_said_of_one_recording():
    wave = Waveform(np.ones(48000, np.float32), 16000, "word.wav", 2)
    assert remarks([wave], CONTRACT) == (
        "word.wav: 2 channels, mixed down to one",
        "word.wav: 16,000 Hz, resampled to the 8,000 Hz the model takes",
        "word.wav: 3.00 s, the model takes 0.27: its loudest part is taken",
    )
    assert remarks([Waveform(np.zeros(800, np.float32), 8000)], CONTRACT) == (
        "the recording: nothing but silence; the answer means nothing",
    )
    assert remarks([Waveform(np.ones(800, np.float32), 8000)], CONTRACT) == ()
    assert len(remarks([wave] * 500, CONTRACT)) == 2  # each thing once, and lengths are not news in a data set


def test_one_file_through_the_contract(sounds, tmp_path, caplog):
    path = sounds.write_wav(tmp_path / "word.wav", np.stack([sounds.tone(rate=16000)] * 2, 1), 16000)
    with caplog.at_level(logging.INFO, "edgekit"):
        feed = sample_feed(str(path), SIGNATURE, {"audio": CONTRACT})
    assert feed["audio"].shape == (1, FRAMES, 40) and feed["audio"].dtype == np.float32
    assert "word.wav: 2 channels" in caplog.text and "16,000 Hz" in caplog.text
    with pytest.raises(DataError, match="has no input spec, so how a recording"):
        sample_feed(str(path), SIGNATURE, {})
    with pytest.raises(DataError, match="no kind that can be read"):
        sample_feed("word.mp3", SIGNATURE, {})


def test_a_folder_a_class(folder, sounds, tmp_path):
    data = open_data(f"audio:{folder}")
    assert (len(data), data.kind, data.classes) == (10, "audio", ("high", "low"))
    assert (len(open_data(f"audio:{folder}@train")), len(open_data(f"audio:{folder}@test"))) == (8, 2)
    feed, labels = next(batches(data, SIGNATURE, {"audio": CONTRACT}, batch=10))
    assert feed["audio"].shape == (10, FRAMES, 40) and labels.tolist() == [0, 1] * 5
    with tarfile.open(tmp_path / "tones.tar.gz", "w:gz") as tar:
        tar.add(folder, "tones")
    assert len(open_data(f"audio:{tmp_path / 'tones.tar.gz'}")) == 10
    (folder / "low" / "0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"low/0\.wav is empty"):
        list(batches(open_data(f"audio:{folder}"), SIGNATURE, {"audio": CONTRACT}))
    (folder / "none").mkdir()
    for name, words in (("none", "0 class folders"), ("nowhere", "audio:DIR takes a folder"), (".", "no recording")):
        with pytest.raises(DataError, match=words):
            open_data(f"audio:{folder / name}")


def test_the_contract_is_measured(folder, sounds, caplog):
    sounds.write_wav(folder / "low" / "other.wav", sounds.tone(0.2, 16000), 16000)
    data = open_data(f"audio:{folder}")
    with caplog.at_level(logging.INFO, "edgekit"):
        contract = measure(data)
    assert "recordings of 16,000 Hz; they are resampled to 8,000 Hz" in caplog.text
    assert contract.params["rate"] == 8000 and contract.params["frames"] == 16  # 0.2 s are 11 frames of 16 ms
    assert contract.params["level"] == "running" and contract.params["least"] == LEAST  # known while the sound goes on
    waves = [resample(wave.samples, wave.rate, 8000) for wave in data.arrays["audio"]]
    found = [log_mel(wave, speech(8000), LEAST) for wave in waves]
    rows = np.concatenate(found).astype(np.float64)
    np.testing.assert_allclose(contract.mean, rows.mean(0), rtol=1e-5)  # six digits are kept
    spread = rows.std(0)
    assert (spread == 0).any()  # bands without a sound are not divided by 0
    np.testing.assert_allclose(contract.std, np.where(spread > 0, spread, 1.0), rtol=1e-5)
    assert measure(data, (33, 20)).params["frames"] == 33 and len(measure(data, (33, 20)).mean) == 20


def test_bare_arrays_say_their_rate():
    samples = [np.random.default_rng(k).standard_normal(4000).astype(np.float32) for k in range(3)]
    data = Dataset("mine", "all", "audio", {"audio": samples}, params={"rate": 16000})
    contract = measure(data)
    assert contract.params["rate"] == 16000
    found = apply_contract(samples, contract)
    assert found.shape == (3, 16, 40) and abs(found[:, -14:].mean()) < 0.1  # 14 frames of sound, normalised
    with pytest.raises(DataError, match="without a sampling rate"):
        measure(Dataset("mine", "all", "audio", {"audio": samples}))
    short = Dataset("mine", "all", "audio", {"audio": [np.ones(9, np.float32)]}, params={"rate": 16000})
    with pytest.raises(DataError, match="as long as one frame"):
        measure(short)
    slow = Dataset("mine", "all", "audio", {"audio": samples}, params={"rate": 1000})
    with pytest.raises(DataError, match="1,000 Hz, too low"):
        measure(slow)


def spoken(path, sounds, count=7, rate=8000, change=""):
    """A small archive of the data set's form; digit and speaker are heard as pitch."""
    with tarfile.open(path, "w:gz") as tar:
        for digit in range(10):
            for number in range(count):
                content = sounds.riff(
                    sounds.described(rate=rate), (b"data", sounds.pcm(sounds.tone(0.1, rate, 200 + 100 * digit), 16))
                )
                member = tarfile.TarInfo(
                    f"free-spoken-digit-dataset-1.0.10/recordings/{digit}_ada_{number}{change}.wav"
                )
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_fsdd_has_its_own_split(sounds, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fsdd, "COUNT", 70)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    spoken(tmp_path / fsdd.ARCHIVE, sounds)
    with caplog.at_level(logging.INFO, "edgekit"):
        test = open_data("fsdd")
    assert "decoding fsdd" in caplog.text and "not those edgekit's figures were measured on" in caplog.text
    assert (test.label, len(test), len(open_data("fsdd@train")), len(open_data("fsdd@all"))) == (
        "fsdd@test",
        50,
        20,
        70,
    )
    assert test.labels[:10].tolist() == list(range(10))  # the digits take turns
    wave = test.arrays["audio"][3]
    assert wave.rate == 8000 and int(np.abs(np.fft.rfft(wave.samples)).argmax()) == 50  # 500 Hz, of 10 Hz each
    caplog.clear()
    with caplog.at_level(logging.INFO, "edgekit"):
        open_data("fsdd")
    assert caplog.text == ""  # decoded once


def test_fsdd_that_is_not_whole(sounds, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    archive = spoken(tmp_path / fsdd.ARCHIVE, sounds, count=2)
    with pytest.raises(DataError, match=r"holds 20 recordings.*3,000 were expected"):
        open_data("fsdd")
    monkeypatch.setattr(fsdd, "COUNT", 20)
    spoken(archive, sounds, count=2, rate=16000)
    with pytest.raises(DataError, match="16,000 Hz, 8,000 were expected"):
        open_data("fsdd")
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        open_data("fsdd")


@pytest.mark.needs_data
def test_the_real_fsdd(real_data, monkeypatch, caplog):
    monkeypatch.setenv("EDGEKIT_DATA", str(real_data))
    with caplog.at_level(logging.INFO, "edgekit"):
        train, test = open_data("fsdd@train"), open_data("fsdd@test")
    assert (len(train), len(test)) == (2700, 300)
    assert np.bincount(test.labels).tolist() == [30] * 10
    assert "not those" not in caplog.text  # the checksum over the recordings


def test_a_running_level_needs_nothing_that_is_still_to_come(sounds):
    """Frames of a recording that goes on are those of the recording until then; loudness beyond ``least`` goes."""
    features = from_params(CONTRACT.params)
    wave = np.concatenate([sounds.tone(0.2) * 0.3, sounds.tone(0.2), sounds.tone(0.2) * 0.2]).astype(np.float32)
    whole = log_mel(wave, features, 0.1)
    for frames in (1, 7, len(whole) - 3):
        np.testing.assert_array_equal(log_mel(wave[: features.samples(frames)], features, 0.1), whole[:frames])
    with np.errstate(all="raise"):
        np.testing.assert_allclose(log_mel(wave / 2, features, 0.05), whole, atol=1e-4)  # float32
    params = {**CONTRACT.params, "level": "running", "least": 0.1, "frames": len(whole)}
    spec = InputSpec("audio", params=params)
    np.testing.assert_array_equal(encode([wave[: features.samples(len(whole))]], spec)[0], whole)
    silence = encode([np.zeros(800, np.float32)], spec)
    assert (silence == np.float32(np.log(features.floor))).all()


def test_the_level_of_a_contract_is_one_of_three():
    for wrong, said in (
        ({"level": "loudest"}, "the level 'loudest'; one of running, peak, as is"),
        ({"level": "running"}, "a running level of at least None"),
        ({"level": "running", "least": 0}, "a running level of at least 0"),
    ):
        with pytest.raises(DataError, match=said):
            encode([np.ones(800, np.float32)], InputSpec("audio", params={**CONTRACT.params, **wrong}))
    peak = InputSpec("audio", params={**CONTRACT.params, "level": "peak"})
    assert live(peak).params == {**CONTRACT.params, "level": "running", "least": LEAST}
    assert live(CONTRACT) == CONTRACT and live(InputSpec("image")) == InputSpec("image")
