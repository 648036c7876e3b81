"""Folders and archives of images, CIFAR-10 in both forms, and the cache with its downloads."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from edgekit.data import batches, open_data, sample_feed
from edgekit.data import cifar10 as cifar10_reader
from edgekit.data.cache import Download, fetch, unpacked
from edgekit.errors import DataError
from edgekit.types import InputSpec, Signature, TensorSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)


def picture(path, colour=(200, 10, 10), size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        for k in range(5):
            picture(tmp_path / "pets" / name / f"{k}.png", colour)
    return tmp_path / "pets"


IMAGE = Signature((TensorSpec("image", "float32", (1, 3, 4, 6)),), (TensorSpec("y", "float32", (1, 2)),))
CONTRACT = {"image": InputSpec("image", "NCHW", (4, 6), 3, 1 / 255)}


def test_a_folder_a_class(folder):
    data = open_data(f"images:{folder}")
    assert (len(data), data.classes) == (10, ("cat", "dog"))
    assert data.labels[:4].tolist() == [0, 1, 0, 1]  # classes take turns, so a limit is not one class
    assert (len(open_data(f"images:{folder}@train")), len(open_data(f"images:{folder}@test"))) == (8, 2)
    feed, labels = next(batches(data, IMAGE, CONTRACT, batch=2))
    assert feed["image"].shape == (2, 3, 4, 6)
    np.testing.assert_allclose(feed["image"][labels.tolist().index(0), :, 0, 0], [1, 0, 0], atol=1e-6)  # float32


def test_train_and_test_folders_are_the_split(folder, tmp_path):
    for part, names in (("train", ("cat", "dog")), ("test", ("cat", "dog"))):
        for name in names:
            picture(tmp_path / "own" / part / name / "a.png")
    assert len(open_data(f"images:{tmp_path / 'own'}")) == 2
    assert len(open_data(f"images:{tmp_path / 'own'}@all")) == 4
    picture(tmp_path / "own" / "test" / "fish" / "a.png")
    with pytest.raises(DataError, match="different classes"):
        open_data(f"images:{tmp_path / 'own'}")


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_an_archive_stands_for_its_folder(folder, tmp_path, form):
    archive = tmp_path / f"pets.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w") as z:
            for file in folder.rglob("*.png"):
                z.write(file, f"pets/{file.relative_to(folder)}")
    else:
        with tarfile.open(archive, "w:gz") as t:
            t.add(folder, "pets")
    assert len(open_data(f"images:{archive}")) == 10
    assert unpacked(archive) == unpacked(archive)  # once


def test_an_archive_that_climbs_out_is_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("../evil.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(DataError, match="would land outside"):
        open_data(f"images:{tmp_path / 'evil.tar.gz'}")
    assert not list(tmp_path.rglob("evil.txt"))


def test_bad_folders(folder, tmp_path):
    for name, words in (
        ("images:", "does not exist"),
        (f"images:{tmp_path / 'none'}", "does not exist"),
        (f"images:{picture(tmp_path / 'one.png')}", "is a file"),
        (f"images:{folder / 'cat'}", "0 class folders"),
    ):
        with pytest.raises(DataError, match=words):
            open_data(name)
    (tmp_path / "single" / "cat").mkdir(parents=True)
    picture(tmp_path / "single" / "cat" / "a.png")
    with pytest.raises(DataError, match="1 class folder,"):
        open_data(f"images:{tmp_path / 'single'}")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        open_data(f"images:{folder}")


def test_an_unreadable_image_is_named(folder):
    (folder / "cat" / "0.png").write_bytes(b"not an image")
    data = open_data(f"images:{folder}")
    with pytest.raises(DataError, match=r"cat/0\.png cannot be read"):
        list(batches(data, IMAGE, CONTRACT))


def test_images_are_brought_to_the_contract(tmp_path):
    grey = picture(tmp_path / "g.png", 128, (3, 3), "L")
    feed = sample_feed(str(grey), IMAGE, CONTRACT)
    assert feed["image"].shape == (1, 3, 4, 6)
    np.testing.assert_allclose(feed["image"], 128 / 255, atol=1e-6)  # float32
    cut = tmp_path / "cut.jpg"
    picture(tmp_path / "whole.jpg", size=(64, 64))
    cut.write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read"):
        sample_feed(str(cut), IMAGE, CONTRACT)
    with pytest.raises(DataError, match="does not exist; give the path of an image"):
        sample_feed("sentence.txt", IMAGE, CONTRACT)
    with pytest.raises(DataError, match="of no kind"):
        sample_feed("sentence.txt", IMAGE, {})


@pytest.fixture
def small_cifar(monkeypatch):
    monkeypatch.setattr(cifar10_reader, "COUNTS", {"train": 20, "test": 10})


def jpeg_archive(path):
    with tarfile.open(path, "w:gz") as tar:
        for split, count in (("train", 2), ("test", 1)):
            for index, name in enumerate(cifar10_reader.CLASSES):
                for k in range(count):
                    out = io.BytesIO()
                    Image.new("RGB", (32, 32), (25 * index, 0, 0)).save(out, "JPEG")
                    member = tarfile.TarInfo(f"cifar/{split}/{name}/{k:04}.jpg")
                    member.size = out.tell()
                    out.seek(0)
                    tar.addfile(member, out)


def binary_archive(path):
    def rows(count):
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10
        planes = np.zeros((count, 3, 32 * 32), np.uint8)
        planes[:, 0] = 25 * labels
        return np.concatenate([labels, planes.reshape(count, -1)], 1).tobytes()

    with tarfile.open(path, "w:gz") as tar:
        names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
        for name in names:
            data = rows(10 if name.startswith("test") else 4)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(("write", "filename"), [
    (jpeg_archive, "cifar10-images.tar.gz"), (binary_archive, "cifar-10-binary.tar.gz"),
])  # fmt: skip
def test_cifar10_from_either_form(small_cifar, tmp_path, monkeypatch, write, filename):
    write(tmp_path / filename)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    test = open_data("cifar10")
    assert (test.label, len(test), len(open_data("cifar10@all"))) == ("cifar10@test", 10, 30)
    reds = np.array([image[..., 0].mean() for image in test.arrays["image"]])
    np.testing.assert_allclose(reds, 25 * test.labels, atol=3)  # JPEG at quality 75 keeps a flat colour to 3 levels
    (tmp_path / filename).write_bytes(b"changed")  # the decoded arrays of the same size are gone with the archive
    with pytest.raises(DataError):
        open_data("cifar10")


def test_a_wrong_count_is_noticed(tmp_path, monkeypatch):
    jpeg_archive(tmp_path / "cifar10-images.tar.gz")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    with pytest.raises(DataError, match="10,000 were expected"):
        open_data("cifar10@test")


def test_checksums_beside_the_data_are_read(small_cifar, tmp_path, monkeypatch):
    jpeg_archive(tmp_path / "cifar10-images.tar.gz")
    digest = hashlib.sha256((tmp_path / "cifar10-images.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  cifar10-images.tar.gz\n")
    assert len(open_data("cifar10")) == 10
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  cifar10-images.tar.gz\n")
    with pytest.raises(DataError, match="SHA256SUMS says"):
        open_data("cifar10")


@pytest.fixture
def server(tmp_path):
    """A real web server on loopback."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_checked_and_kept(server, tmp_path):
    (tmp_path / "served" / "a.bin").write_bytes(b"abc")
    good = "md5:" + hashlib.md5(b"abc", usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match="was expected; nothing was kept"):
        fetch(Download("a.bin", f"{server}/a.bin", "md5:" + "0" * 32))
    assert not list((tmp_path / "cache").iterdir())
    path = fetch(Download("a.bin", f"{server}/a.bin", good))
    assert path.read_bytes() == b"abc"
    (tmp_path / "served" / "a.bin").unlink()
    assert fetch(Download("a.bin", f"{server}/a.bin", good)) == path  # not asked for again


def test_cifar10_downloads_from_a_mirror(small_cifar, server, tmp_path, monkeypatch):
    archive = tmp_path / "served" / "cifar-10-binary.tar.gz"
    binary_archive(archive)
    digest = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(cifar10_reader, "BINARY", Download(archive.name, "http://127.0.0.1:1/none", f"md5:{digest}"))
    with pytest.raises(DataError, match="cannot be downloaded"):
        open_data("cifar10")
    monkeypatch.setenv("EDGEKIT_MIRROR", server)
    assert len(open_data("cifar10@train")) == 20


def test_a_data_folder_that_is_none(monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", "/nowhere/at/all")
    with pytest.raises(DataError, match="not a folder"):
        open_data("cifar10")
