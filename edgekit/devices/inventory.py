"""Devices the user has given names: ``$XDG_CONFIG_HOME/edgekit/devices.toml``, else ``~/.config/edgekit/devices.toml``.

[pi]
address = "ssh://pi@192.168.1.7"
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edgekit.errors import InputError, UsageError
from edgekit.outputs import publishing
from edgekit.registry import names

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def config_file() -> Path:
    """Where the names are kept; it need not be there."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgekit" / "devices.toml"


def saved() -> dict[str, str]:
    """Name -> address of every saved device, in the order of the file.

    Raises:
        InputError: the file is not valid.
    """
    file = config_file()
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{file} cannot be read: {error}; correct it, or remove it and add the devices again"
        ) from error
    found = {}
    for name, table in tables.items():
        address = table.get("address") if isinstance(table, dict) else None
        if not isinstance(address, str) or not _NAME.fullmatch(name):
            raise InputError(f'{file}: [{name}] has no address = "…"; correct it, or add the device again')
        found[name] = address
    return found


def save(name: str, address: str) -> Path:
    """Gives ``address`` a name, in place of what had it before; the file.

    Raises:
        UsageError: the name is no name, or that of a kind of device.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a device; use letters, digits, '-', '_' and '.'")
    if name in names("devices") or name == "cuda":
        raise UsageError(f"{name!r} is a kind of device; choose another name")
    return _write({**saved(), name: address})


def forget(name: str) -> Path:
    """Takes a name away; the file.

    Raises:
        UsageError: no saved device has it.
    """
    known = saved()
    if name not in known:
        raise UsageError(f"no saved device is called {name!r}; there are: {', '.join(known) or 'none'}")
    return _write({key: value for key, value in known.items() if key != name})


def _write(devices: Mapping[str, str]) -> Path:
    file = config_file()
    lines = ["# Made by 'edgekit device add'; each name can stand after --on."]
    for name, address in devices.items():
        key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
        lines += ["", f"[{key}]", f"address = {json.dumps(address, ensure_ascii=False)}"]
    with publishing(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
