"""The file of names: a damaged entry costs no other, and a change leaves the rest as it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices import inventory, parse_device
from edgekit.errors import InputError, LimitError, UsageError
from edgekit.pipeline.device import add, devices

GOOD = '[good]\naddress = "python:/good"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file of names is; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "edgekit").mkdir(parents=True)
    return tmp_path / "config" / "edgekit" / "devices.toml"


def test_names_come_and_go(file: Path) -> None:
    assert inventory.saved() == {} and inventory.address_of("pi") is None
    inventory.save("pi", "ssh://pi@board")
    inventory.save("a.b", "python:/größe; $(x)")
    inventory.save("pi", "ssh://other")
    assert inventory.saved() == {"a.b": "python:/größe; $(x)", "pi": "ssh://other"}
    assert parse_device("a.b").name == "a.b" and parse_device(" pi ").kind == "ssh"
    inventory.forget("a.b")
    assert inventory.saved() == {"pi": "ssh://other"}
    with pytest.raises(UsageError, match="there are: pi"):
        inventory.forget("a.b")


@pytest.mark.parametrize("name", ["cpu", "cuda", "a b", ""])
def test_a_name_is_refused_before_the_device_is_asked(file: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"is a kind of device|is not a name for a device"):
        add(name, "ssh:nobody@192.0.2.1")


def test_a_change_leaves_the_rest_as_it_is_written(file: Path) -> None:
    others = '# my boards\n[one]   # in the cellar\naddress = "python:/one"\n[broken]\naddress = """\n'
    file.write_text(others)
    inventory.save("two", "python:/two")
    assert file.read_text().startswith(others.rstrip()) and inventory.saved()["two"] == "python:/two"
    inventory.forget("broken")
    assert inventory.saved() == {"one": "python:/one", "two": "python:/two"} and "cellar" in file.read_text()


@pytest.mark.parametrize(
    ("bad", "name", "fault"),
    [
        ("[bad]\naddress = 5\n", "bad", 'has no address = "…"'),
        ("[bad]\n", "bad", "has no address"),
        ('[bad]\naddress = "python:/x\n', "bad", "cannot be read"),
        (f"[bad]\naddress = {'[' * 5000}\n", "bad", "nested too deeply"),
        (f"[bad]\nport = {'9' * 5000}\n", "bad", "cannot be read"),
        ('["\x1b]0;title\x07"]\naddress = "python:/x"\n', "\x1b]0;title\x07", "cannot be read"),
        ('["a b"]\naddress = "python:/x"\n', "a b", "no device can have"),
        ('[bad]\naddress = "ssh://-oProxyCommand=x"\n', "bad", "give ssh://"),
        ('[bad]\naddress = "gpu"\n', "bad", "no device is called 'gpu'"),
        ('[bad]\naddress = "python:/x\\u0000"\n', "bad", "zero byte"),
        ("bad = 3\n", "bad", "has no address"),
        ("garbage\n", "devices.toml", "cannot be read"),
        ("[bad\n", "devices.toml", "cannot be read"),
    ],
)
def test_one_that_is_damaged_is_listed_and_costs_no_other(file: Path, bad: str, name: str, fault: str) -> None:
    first = bad if not bad.startswith("[") or name == "devices.toml" else ""
    file.write_text(first + GOOD + ("" if first else bad) + '[last]\naddress = "python:/last"\n')
    rows = {row.name: row for row in devices(state=False).saved}
    assert rows["good"].state == rows["last"].state == "unknown"
    assert rows[name].state == "invalid" and fault in rows[name].detail and len(rows[name].detail) < 400
    assert parse_device("good").address == "/good"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\0" * 100, b"x" * 100_000])
def test_a_file_that_is_none_is_listed_as_one_entry(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    (row,) = devices(state=True).saved
    assert (row.name, row.state) == ("devices.toml", "invalid")
    assert parse_device("cpu").kind == "cpu"  # a kind needs no names
    with pytest.raises((InputError, UsageError)):
        parse_device("pi")


def test_what_is_not_a_file_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    (row,) = devices(state=False).saved
    assert row.state == "invalid" and "is a FIFO" in row.detail
    with pytest.raises(InputError, match="is a FIFO"):
        inventory.save("pi", "ssh://pi")


def test_a_file_that_is_too_large(file: Path) -> None:
    file.write_text("#" * ((1 << 20) + 1))
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_INVENTORY_BYTES"):
        inventory.saved()


def test_the_name_of_a_damaged_device_says_why(file: Path) -> None:
    file.write_text("[pi]\naddress = 5\n" + GOOD)
    with pytest.raises(InputError, match=r"devices\.toml: the device 'pi' has no address"):
        parse_device("pi")
    inventory.save("pi", "ssh://pi")
    assert parse_device("pi").kind == "ssh"


def test_a_name_without_a_table_of_its_own_is_not_removed(file: Path) -> None:
    file.write_text('pi.address = "ssh://pi"\n')
    assert inventory.saved() == {"pi": "ssh://pi"}
    with pytest.raises(InputError, match="remove it there by hand"):
        inventory.forget("pi")


def test_the_list_of_a_damaged_file_is_a_list(file: Path, edgekit_cli: Callable[..., Any]) -> None:
    file.write_text('[gone]\naddress = "python:/nowhere/python"\n[bad]\naddress = 5\n')
    done = edgekit_cli("device", "list", "--json", "-")
    assert done.code == 0, done.err
    assert [(row["name"], row["state"]) for row in done.document["saved"]] == [
        ("gone", "unreachable"),
        ("bad", "invalid"),
    ]
    shown = edgekit_cli("device", "list")
    assert shown.code == 0 and "has no address" in shown.out
