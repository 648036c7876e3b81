"""Files on their way to the device: whole or not at all, once, and nothing left of what failed."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices import client as client_module
from edgekit.devices.client import CHUNK_BYTES, WorkerClient
from edgekit.errors import ModelError, ProtocolError, TransferError, UnreachableError, WorkerCrashError

Start = Callable[..., WorkerClient]
Ends = Callable[..., AbstractContextManager[None]]
Do = Callable[..., None]


def written(folder: Path, size: int, seed: int = 0) -> Path:
    """A file of ``size`` random bytes, which no two tests share."""
    file = folder / f"{seed}-{size}.bin"
    file.write_bytes(np.random.default_rng([seed, size]).bytes(size))
    return file


def commands_of(client: WorkerClient) -> list[str]:
    """The commands that are sent from now on."""
    told: list[str] = []
    ask = client._ask

    def listening(command: str, *rest: Any, **options: Any) -> Any:
        told.append(command)
        return ask(command, *rest, **options)

    client._ask = listening  # type: ignore[method-assign]
    return told


def test_files_of_every_size_arrive_as_they_are_and_once(start: Start, place: Any, tmp_path: Path) -> None:
    files = [written(tmp_path, size, seed=100) for size in (0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7)]
    with start() as client:
        there = [Path(client.send(file)) for file in files]
        for sent, file in zip(there, files, strict=True):
            assert sent.read_bytes() == file.read_bytes()
            assert sent.is_relative_to(place.cache)
        told = commands_of(client)
        assert [client.send(file) for file in files] == list(map(str, there)) and told == ["find"] * len(files)
    with start() as another:
        told = commands_of(another)
        assert [another.send(file) for file in files] == list(map(str, there)) and told == ["find"] * len(files)


@pytest.mark.slow
def test_200_megabytes(start: Start, tmp_path: Path) -> None:
    file = written(tmp_path, 200_000_000)
    with start() as client:
        there = Path(client.send(file))
        with open(there, "rb") as handle:
            assert hashlib.file_digest(handle, "sha256").hexdigest() == there.stem
        assert there.stat().st_size == 200_000_000
        peak = client.peak_memory_bytes()
        assert peak is None or peak < 200_000_000  # pieces, not the whole
    there.unlink()


def test_content_that_is_not_what_was_announced(
    start: Start, ends_in: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes while it is read: its hash was taken before."""
    file = written(tmp_path, 5000, seed=1)
    monkeypatch.setattr(client_module, "sha256_file", lambda path: "a" * 64)
    with start() as client:
        with ends_in(TransferError, "arrived with SHA-256", "announced were 5,000", "send it again"):
            client.send(file)
        assert client._ask("find", sha256="a" * 64, suffix=".bin", bytes=5000).header["path"] is None
        monkeypatch.undo()


def test_a_file_that_was_damaged_there_is_sent_again(start: Start, tmp_path: Path) -> None:
    file = written(tmp_path, 5000, seed=2)
    with start() as client:
        there = Path(client.send(file))
        data = bytearray(file.read_bytes())
        data[17] ^= 1
        there.write_bytes(data)
        assert Path(client.send(file)).read_bytes() == file.read_bytes()


def test_the_disk_of_the_device_is_full(start: Start, do: Do, ends_in: Ends, tmp_path: Path) -> None:
    """A limit on the size of files refuses a write in the middle, as a full disk does."""
    file = written(tmp_path, 3 * CHUNK_BYTES, seed=3)
    with start() as client:
        do(client, "resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000))")
        with ends_in(TransferError, "no space left on the device for 3,145,728 bytes", "free some there"):
            client.send(file)
        assert client.environment()  # it lives on, and smaller files still go
        assert Path(client.send(written(tmp_path, 1000, seed=3))).stat().st_size == 1000


@pytest.fixture
def small_disk(place: Any) -> Iterator[Path]:
    """A disk of 3 MB in the place of the folder that files are sent to."""
    folder = place.cache / "files"
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("needs the right to mount a disk of its own")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_filled_by_somebody_else_meanwhile(
    start: Start, do: Do, ends_in: Ends, tmp_path: Path, small_disk: Path
) -> None:
    """Really full (ENOSPC): there was room when the file was announced. The worker, and what was there, live on."""
    file, small = written(tmp_path, 2 * CHUNK_BYTES + 1, seed=9), written(tmp_path, 1000, seed=9)
    ballast = small_disk / ("f" * 64)
    with start() as client:
        kept = Path(client.send(small))
        do(
            client,
            "def put(m, put=self.put):\n"
            f"    if m.header['offset'] == {CHUNK_BYTES}: open({str(ballast)!r}, 'wb').write(bytes(1 << 20))\n"
            "    return put(m)\n"
            "self.commands['put'] = put",
        )
        with ends_in(TransferError, "no space left on the device", "No space left on device", "free some there"):
            client.send(file)
        assert kept.read_bytes() == small.read_bytes()
        assert {entry.name for entry in small_disk.iterdir()} == {kept.name, ballast.name, ".lock"}
        ballast.unlink()
        do(client, "self.commands['put'] = self.put")
        assert Path(client.send(file)).stat().st_size == file.stat().st_size


def test_too_large_for_the_disk_is_refused_before_it_is_sent(start: Start, ends_in: Ends) -> None:
    with start() as client, ends_in(TransferError, "no space left", "bytes are free"):
        client._ask(
            "put", {"chunk": np.ones(8, np.uint8)}, offset=0, last=False, sha256="b" * 64, suffix="", bytes=1 << 60
        )


def test_names_that_lead_out_of_the_folder(start: Start, ends_in: Ends) -> None:
    named = [("../" * 20 + "b" * 4, ""), ("b" * 64, "/../../x"), ("b" * 63, ""), ("b" * 64, ".a b"), ("b" * 64, ".x\n")]
    with start() as client:
        for digest, suffix in named:
            with ends_in(ProtocolError, "wanted a SHA-256"):
                client._ask(
                    "put", {"chunk": np.ones(8, np.uint8)}, offset=0, last=True, sha256=digest, suffix=suffix, bytes=8
                )


def test_pieces_out_of_order(start: Start, ends_in: Ends) -> None:
    named = {"sha256": "c" * 64, "suffix": "", "bytes": 20}
    piece = {"chunk": np.ones(8, np.uint8)}
    with start() as client:
        with ends_in(ProtocolError, "got 8 bytes at 8"):
            client._ask("put", piece, offset=8, last=False, **named)
        client._ask("put", piece, offset=0, last=False, **named)
        with ends_in(ProtocolError, "of a file of 20"):
            client._ask("put", {"chunk": np.ones(80, np.uint8)}, offset=8, last=False, **named)


def test_the_connection_is_cut_in_the_middle(start: Start, place: Any, tmp_path: Path) -> None:
    file = written(tmp_path, 5 * CHUNK_BYTES, seed=4)
    client = start()
    ask = client._ask

    def cutting(command: str, *rest: Any, **options: Any) -> Any:
        if options.get("offset") == 2 * CHUNK_BYTES:
            place.cut(client)
        return ask(command, *rest, **options)

    client._ask = cutting  # type: ignore[method-assign]
    with pytest.raises((WorkerCrashError, UnreachableError)) as caught:
        client.send(file)
    assert caught.value.exit_code == 4
    with start() as another:  # and then it goes, from the start
        assert Path(another.send(file)).read_bytes() == file.read_bytes()


def test_the_worker_dies_in_the_middle(start: Start, do: Do, ends_in: Ends, tmp_path: Path) -> None:
    file = written(tmp_path, 3 * CHUNK_BYTES, seed=5)
    with start() as client:
        do(client, "self.commands['put'] = lambda m, put=self.put: os._exit(9) if m.header['offset'] else put(m)")
        with ends_in(WorkerCrashError, "died during 'put'", "exit status 9"):
            client.send(file)


def test_two_send_the_same_and_different_files_at_once(start: Start, tmp_path: Path) -> None:
    same = written(tmp_path, 4 * CHUNK_BYTES, seed=6)
    found: dict[int, list[bytes]] = {}
    clients = [start(), start()]

    def send(index: int) -> None:
        own = written(tmp_path, 2 * CHUNK_BYTES, seed=7 + index)
        found[index] = [Path(clients[index].send(file)).read_bytes() for file in (same, own)]
        assert found[index][1] == own.read_bytes()

    threads = [threading.Thread(target=send, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found[0][0] == found[1][0] == same.read_bytes()
    assert found[0][1] != found[1][1]


LOCATIONS = ("weights of größe.data", "$(touch pwned); `x`\n.data", "deep/er/w.data")


def test_models_in_several_files(start: Start, do: Do, place: Any, files: ModuleType, tmp_path: Path) -> None:
    """All of them cross, by content, once each, and lie there as they lie here; new weights make it another model."""
    feed = {"x": np.zeros((1, 4), np.float32)}
    for value in (2, 3):
        sent: list[tuple[Path, Path]] = []
        with start() as client:
            for location in LOCATIONS:
                folder = tmp_path / str(len(sent))
                data = folder / location
                data.parent.mkdir(parents=True, exist_ok=True)
                np.full(4, value, np.float32).tofile(data)
                model = files.external_onnx(folder / "m.onnx", location)
                there = Path(client.send(model))
                sent.append((model, there))
                assert there.read_bytes() == model.read_bytes() and there.is_relative_to(place.cache)
                assert (there.parent / location).read_bytes() == data.read_bytes()
                told = commands_of(client)
                assert client.send(model) == str(there) and told == ["find", "find", "together"]
                if client.hello["runtimes"]["onnxruntime"]:
                    client.load(model)
                    assert client.run(feed)["y"].tolist() == [[value] * 4]
                    do(client, f"self.commands['load'](protocol.Message(dict(path={str(there)!r})))")
                    assert client.run(feed)["y"].tolist() == [[value] * 4]
                client.forget(model)
        with start() as client:  # nobody holds them any more
            for model, _ in sent:
                client.forget(model)
        assert not [there for _, there in sent if there.exists() or there.parent.exists()]
    assert not list(tmp_path.rglob("pwned*"))


def test_a_model_whose_weights_lie_elsewhere(start: Start, ends_in: Ends, files: ModuleType, tmp_path: Path) -> None:
    model = files.external_onnx(tmp_path / "m.onnx", "../w.bin")
    (tmp_path.parent / "w.bin").write_bytes(bytes(16))
    with start() as client:
        with ends_in(ModelError, "outside its own folder", code=3):
            client.send(model)
        missing = files.external_onnx(tmp_path / "n.onnx", "w.bin")
        with ends_in(ModelError, "no such file is there", code=3):
            client.send(missing)
        sent = {"sha256": hashlib.sha256(b"x").hexdigest(), "suffix": ""}
        client._ask("put", {"chunk": np.frombuffer(b"x", np.uint8)}, offset=0, last=True, bytes=1, **sent)
        for name in ("../x", "/tmp/x", "a/../../x", ""):
            with ends_in(ProtocolError, "wanted a name inside the folder"):
                client._ask("together", files=[{**sent, "name": name}])
        with ends_in(ProtocolError, "was not sent before"):
            client._ask("together", files=[{"sha256": "d" * 64, "suffix": "", "name": "x"}])


def test_a_file_that_is_not_there(start: Start, ends_in: Ends, tmp_path: Path) -> None:
    with start() as client, ends_in(ModelError, "does not exist", code=3):
        client.send(tmp_path / "nowhere.onnx")
