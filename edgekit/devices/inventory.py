"""Devices the user has given names: ``$XDG_CONFIG_HOME/edgekit/devices.toml``, else ``~/.config/edgekit/devices.toml``.

[pi]
address = "ssh://pi@192.168.1.7"

Each table is read by itself, so that a damaged one costs no other; a change of one leaves the rest as it is written.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgekit.errors import InputError, UsageError
from edgekit.inputs import read_regular
from edgekit.locks import locked
from edgekit.outputs import publishing
from edgekit.registry import names

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HEAD: Final = re.compile(r'^\[\s*([A-Za-z0-9_-]+|"[^"\\\n]*")\s*\]', re.MULTILINE)
_MADE: Final = "# Made by 'edgekit device add'; each name can stand after --on.\n"
_HOW: Final = "correct it, or remove it and add the devices again"


@dataclass(frozen=True, slots=True)
class Named:
    """A name in the file: its address, or the ``fault`` that leaves it without one."""

    name: str
    address: str = ""
    fault: str = ""


def config_file() -> Path:
    """Where the names are kept; it need not be there."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "edgekit" / "devices.toml"


def entries() -> list[Named]:
    """Every name, in the order of the file, those whose table is damaged with what is wrong with it.

    Raises:
        InputError: the file cannot be read at all.
    """
    found: dict[str, Named] = {}
    for head, block in _blocks(_text()):
        found.update((one.name, one) for one in _read(head, block))
    return list(found.values())


def saved() -> dict[str, str]:
    """Name -> address of every saved device, in the order of the file; what is damaged is left out.

    Raises:
        InputError: the file cannot be read at all.
    """
    return {one.name: one.address for one in entries() if not one.fault}


def address_of(name: str) -> str | None:
    """The address with this name, None where no device has it.

    Raises:
        InputError: the file, or what stands there of this name, cannot be read.
    """
    for one in entries():
        if one.name == name and one.fault:
            raise InputError(f"{config_file()}: the device {name!r} {one.fault}; {_HOW}")
        if one.name == name:
            return one.address
    return None


def require_name(name: str) -> None:
    """Raises UsageError where ``name`` is not a name, or that of a kind of device."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name for a device; use letters, digits, '-', '_' and '.'")
    if name in names("devices") or name == "cuda":
        raise UsageError(f"{name!r} is a kind of device; choose another name")


def save(name: str, address: str) -> Path:
    """Gives ``address`` a name, in place of what had it before; the file.

    Raises:
        UsageError: the name is not a name, or that of a kind of device.
        InputError: the file cannot be read.
    """
    require_name(name)
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    table = f"[{key}]\naddress = {json.dumps(address, ensure_ascii=False)}\n"
    with _alone():
        kept = "".join(_without(name)) or _MADE
        return _write(f"{kept.rstrip()}\n\n{table}")


def forget(name: str) -> Path:
    """Takes a name away, also one whose table is damaged; the file.

    Raises:
        UsageError: no saved device has it.
        InputError: the file cannot be read, or has the name in a form that is not a table of its own.
    """
    with _alone():
        known = [one.name for one in entries()]
        if name not in known:
            raise UsageError(f"no saved device is called {name!r}; there are: {', '.join(known) or 'none'}")
        kept = _without(name)
        if len(kept) == len(_blocks(_text())):
            raise InputError(f"{config_file()}: {name!r} has no table of its own ([{name}]); remove it there by hand")
        return _write("".join(kept))


def _alone() -> AbstractContextManager[None]:
    """Who reads the file to write it again does so alone; those who only read it find it whole at any time."""
    return locked(config_file().with_name("devices.lock"))


def _text() -> str:
    """The file as it is, empty if there is no file."""
    file = config_file()
    try:
        return read_regular(file, InputError, "a file of names of devices", "INVENTORY_BYTES").decode()
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{file} cannot be read: {error}; {_HOW}") from error


def _blocks(text: str) -> list[tuple[str, str]]:
    """The tables of the file, each with its name and its text; what stands before the first has no name."""
    heads = list(_HEAD.finditer(text))
    starts = [0, *(head.start() for head in heads)]
    ends = [*starts[1:], len(text)]
    labels = ["", *(head[1].strip('"') for head in heads)]
    return [(label, text[a:b]) for label, a, b in zip(labels, starts, ends, strict=True)]


def _read(head: str, block: str) -> Sequence[Named]:
    """The names that a block defines; one that cannot be read is its head's, or the file's."""
    label = head or config_file().name
    try:
        tables = tomllib.loads(block)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError of its own
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        return [Named(label, fault=f"cannot be read: {why}")]
    found = []
    for name, table in tables.items():
        address = table.get("address") if isinstance(table, dict) else None
        if not _NAME.fullmatch(name):
            found.append(Named(name, fault="has a name that no device can have"))
        elif not isinstance(address, str):
            found.append(Named(name, fault='has no address = "…"'))
        else:
            found.append(Named(name, address))
    return found


def _without(name: str) -> list[str]:
    """The text of the blocks, without the tables of this name."""
    return [block for head, block in _blocks(_text()) if head != name]


def _write(text: str) -> Path:
    file = config_file()
    with publishing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file
