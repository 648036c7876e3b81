#!/usr/bin/env python3
"""A stand-in for adb, for tests: push and shell act on a folder of this machine in place of a phone's.

``$STANDIN_ADB`` names a folder: ``serial`` holds the serial number of the device there, ``state`` what it is
(``device``, ``unauthorized``, ``offline``), ``phone`` its files. It speaks as adb does: those are its exit codes and
words. Every call is written to ``log`` as a line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

STATES = {
    "unauthorized": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
    "Try 'adb kill-server' if that seems wrong.\nOtherwise check for a confirmation dialog on your device.",
    "offline": "error: device offline",
}
GETPROP = """\
getprop() {{ case $1 in ro.product.model) echo "Standin 7";; ro.product.manufacturer) echo Tests;; \
ro.product.cpu.abi) echo arm64-v8a;; ro.build.version.sdk) echo 34;; ro.build.version.release) echo 14;; \
ro.hardware) echo standin;; esac; }}
"""


def main() -> int:
    home = Path(os.environ["STANDIN_ADB"])
    arguments = sys.argv[1:]
    with open(home / "log", "a", encoding="utf-8") as log:
        log.write(json.dumps(arguments) + "\n")
    if arguments[:1] != ["-s"]:
        return fail("adb: more than one device/emulator")
    serial, verb, *rest = arguments[1:]
    if serial != (home / "serial").read_text():
        return fail(f"error: device '{serial}' not found")
    state = (home / "state").read_text()
    if state != "device":
        return fail(STATES[state])
    phone = home / "phone"
    if verb == "get-state":
        print("device")
        return 0
    if verb == "push":
        source, target = rest
        place = phone / target.lstrip("/")
        if (home / "full").exists():
            return fail(f"adb: error: failed to copy '{source}' to '{target}': remote No space left on device")
        shutil.copyfile(source, place)
        print(f"{source}: 1 file pushed, 0 skipped. 30.0 MB/s ({place.stat().st_size} bytes in 0.001s)")
        return 0
    if verb == "shell":
        command = rest[0].replace("/data/local/tmp", f"{phone}/data/local/tmp")
        return subprocess.run(["sh", "-c", GETPROP.format() + command], check=False).returncode
    return fail(f"adb: unknown command {verb}")


def fail(words: str) -> int:
    print(words, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
