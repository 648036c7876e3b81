"""Arrays of strangers: headers that lie, archives that swell, members of every kind that is not an array."""

import io
import random
import struct
import zipfile

import numpy as np
import pytest

from edgekit.data import open_data
from edgekit.data.arrays import read_npy, read_npz, save_npz
from edgekit.errors import DataError, LimitError


def npy(header, body=b"", version=(1, 0)):
    text = header.encode() + b" " * ((-len(header) - 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + body


def described(shape="(4,)", descr="'<f4'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def npz(path, method=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.eye(3)), np.float32(3), np.zeros((0, 5)),
    np.array(["ab", "c"]), np.array([True, False]), np.ones((2, 1, 3), np.float16),
])  # fmt: skip
def test_arrays_are_read_as_numpy_wrote_them(tmp_path, array):
    np.savez_compressed(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "a.npy", array)
    for found in (read_npz(tmp_path / "a.npz")["x"], read_npy(tmp_path / "a.npy")):
        assert (found.dtype, found.shape) == (np.asarray(array).dtype, np.asarray(array).shape)
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(("data", "words"), [
    (npy(described("(10**9, 10**9)")), "cannot be read"),
    (npy(described("(1000000000, 4)")), "EDGEKIT_LIMIT_ARRAY_BYTES"),
    (npy(described("(1000000, 4)")), "cut short: 16,000,000 bytes of values were expected, 0 are there"),
    (npy(described("(-4,)"), bytes(16)), "shape"),
    (npy(described("(True, 4)"), bytes(16)), None),
    (npy(described(descr="'|O'"), bytes(64)), "pickles"),
    (npy(described(descr="[('a', '<f4')]"), bytes(16)), "only plain numbers"),
    (npy(described(descr="('<f4', (2,))"), bytes(64)), "only plain numbers"),
    (npy(described(descr="'<U0'")), None),
    (npy(described(descr="'nonsense'")), "cannot be read"),
    (npy(described(f"({'9' * 5000},)"), bytes(16)), "cannot be read"),
    (npy("(" * 3000), "cannot be read"),
    (npy("{'descr': '<f4'"), "cannot be read"),
    (npy(described(), bytes(16), (3, 0)), "version"),
    (npy(described(), bytes(16), (9, 9)), "version"),
    (b"\x93NUMPY", "cannot be read"),
    (b"\x80\x04\x95", "cannot be read"),
])  # fmt: skip
def test_headers_are_checked_before_anything_is_allocated(tmp_path, data, words):
    (tmp_path / "a.npy").write_bytes(data)
    npz(tmp_path / "a.npz", x=data)
    for read, path in ((read_npy, tmp_path / "a.npy"), (read_npz, tmp_path / "a.npz")):
        with pytest.raises((DataError, LimitError), match=words):
            read(path)


def test_a_small_file_does_not_become_a_large_one(tmp_path):
    size = 300 << 20
    path = npz(tmp_path / "a.npz", x=npy(described(f"({size},)", "'|u1'")))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", size + 128)  # what the list of members says of the first one
    path.write_bytes(data)
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_UNPACKED_RATIO"):
        read_npz(path)
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_UNPACKED_RATIO"):
        read_npz(zeros(tmp_path / "b.npz", 257))


def zeros(path, megabytes):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as out,
    ):
        out.write(npy(described(f"({megabytes << 20},)", "'|u1'")))
        for _ in range(megabytes):
            out.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_named(tmp_path, method):
    out = io.BytesIO()
    np.save(out, np.ones(4))
    with pytest.raises(DataError, match="by the method"):
        read_npz(npz(tmp_path / "a.npz", method, x=out.getvalue()))


def test_a_password_is_named(tmp_path):
    path = npz(tmp_path / "a.npz", x=npy(described(), bytes(16)))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="with a password"):
        read_npz(path)


@pytest.mark.parametrize("names", [("x",), ("x.npy", "x.npy"), ("a.txt",)])
def test_members_that_are_not_arrays(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, pytest.warns() if len(names) > 1 else io.BytesIO():
        for name in names:
            archive.writestr(name, npy(described(), bytes(16)))
    with pytest.raises(DataError, match=r"not an array|twice"):
        read_npz(tmp_path / "a.npz")


def test_what_is_not_a_zip_file(tmp_path):
    np.save(tmp_path / "bare.npy", np.ones(3))
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    (tmp_path / "text.npz").write_bytes(b"hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, words in (("bare", "one bare array"), ("text", "not a zip file"), ("empty", "not a zip file")):
        with pytest.raises(DataError, match=words):
            read_npz(tmp_path / f"{name}.npz")


def test_labels_beyond_all_classes(tmp_path):
    for labels in (np.array([0, 2**62]), np.array([0, 2**64 - 1], np.uint64)):
        np.savez(tmp_path / "a.npz", inputs=np.ones((2, 3)), labels=labels)
        with pytest.raises(LimitError, match="EDGEKIT_LIMIT_CLASSES"):
            open_data(f"npz:{tmp_path / 'a.npz'}")


def test_damage_is_a_data_error(tmp_path):
    dice = random.Random(1)
    np.savez(tmp_path / "s.npz", inputs=np.ones((4, 3), np.float32), labels=np.arange(4))
    np.savez_compressed(tmp_path / "c.npz", inputs=np.ones((4, 3), np.float32), labels=np.arange(4))
    wholes = [(tmp_path / name).read_bytes() for name in ("s.npz", "c.npz")]
    refused = 0
    for turn in range(120):
        data = bytearray(wholes[turn % 2])
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(len(data))] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        cut = dice.randrange(len(data)) if dice.random() < 0.2 else len(data)
        (tmp_path / "a.npz").write_bytes(data[:cut])
        try:
            open_data(f"npz:{tmp_path / 'a.npz'}")
        except DataError:
            refused += 1
        except LimitError:
            refused += 1
    assert refused > 0  # else nothing was damaged


def test_arrays_of_any_name_are_written_as_numpy_does(tmp_path):
    """An output may be called ``file``, which is what numpy's own function calls its first argument."""
    arrays = {"file": np.arange(6.0).reshape(2, 3), "a/b:0": np.array(7), "args": np.zeros((0, 2), np.int8)}
    save_npz(tmp_path / "x.npz", arrays)
    with np.load(tmp_path / "x.npz") as found:
        assert set(found) == set(arrays)
        assert all(
            np.array_equal(found[name], value) and found[name].dtype == value.dtype for name, value in arrays.items()
        )
    assert set(read_npz(tmp_path / "x.npz")) == set(arrays)
