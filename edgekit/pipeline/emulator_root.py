"""Builds the root of the ARM emulator: qemu-user, an arm64 Python from Debian packages, and wheels for aarch64.

Everything goes into one folder, without being root: apt works in a private folder of its own, with the sources of
Debian bookworm and its backports (qemu 7.2 of bookworm itself crashes in onnxruntime; 10 does not), and packages are
unpacked, not installed. What is downloaded is kept until the root is whole, so that an interrupted build goes on.
Debian's packages are checked by apt against its signatures, wheels against the hashes below. The folder gets its name
last.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgekit import children
from edgekit.artifact import sha256_file
from edgekit.devices.emulator import SITES, VERSION, root_folder
from edgekit.errors import DeviceError, RuntimeMissingError, StorageError
from edgekit.locks import locked

log = logging.getLogger("edgekit")
MIRROR: Final = "http://deb.debian.org/debian"
KEYRINGS: Final = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
EMULATOR: Final = "qemu-user:amd64"
SYSTEM: Final = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
PLATFORMS: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
"""Newest first; bookworm has glibc 2.36."""
WHEELS: Final[Mapping[str, Mapping[str, str]]] = {
    SITES[""]: {
        "numpy==2.4.6": "0ab0a9c4ffb1a6d95ef519fe4247dba8eb6b18ad93999f76b7f657039acabd47",
        "ai-edge-litert==2.3.0": "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
        "ml_dtypes==0.6.0": "7728c0420ec1c338564fc8b01015ff2d58567e70f17fedce5a0a7c0308c0d5b9",
        "onnxruntime==1.31.1": "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
    },
    SITES["tflite-runtime"]: {
        "numpy==1.26.4": "7ab55401287bfec946ced39700c053796e7cc0e3acbef09993a9ad2adba6ca6e",
        "tflite-runtime==2.14.0": "ce9fa5d770a9725c746dcbf6f59f3178233b3759f09982e8b2db8d2234c333b0",
    },
}
"""Folder of packages -> requirement -> SHA-256 of its wheel for aarch64 and Python 3.11."""
NEEDED_BYTES: Final = 1 << 30
TRY: Final = {
    SITES[""]: "import numpy, ai_edge_litert.interpreter, ml_dtypes, onnxruntime, platform; print(platform.machine())",
    SITES["tflite-runtime"]: "import numpy, tflite_runtime.interpreter, platform; print(platform.machine())",
}


def build_root() -> Path:
    """The root, built if it is not there: about 150 MB are downloaded and 400 MB stay.

    Raises:
        RuntimeMissingError: this machine has no apt, dpkg or pip, or is not an x86-64 Linux.
        DeviceError: a download failed, or what came does not run.
        StorageError: there is no room.
    """
    target = root_folder()
    if (target / "manifest.json").is_file():
        return target
    _check_machine(target)
    waiting = "another process builds the ARM system; this one waits for it"
    with locked(target.with_name(f".{target.name}.lock"), waiting):
        if not (target / "manifest.json").is_file():
            _build(target)
    return target


def _build(target: Path) -> None:
    building = target.with_name(f".{target.name}.building")
    building.mkdir(parents=True, exist_ok=True)
    root = building / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    steps = 5
    log.info("1/%d  Debian's lists of packages, from %s", steps, MIRROR)
    apt = _private_apt(building / "apt")
    _run([*apt, "update"], "Debian's lists of packages could not be read")
    log.info("2/%d  an arm64 Python and the emulator, 80 MB", steps)
    debs = _download_debs(apt, building / "debs")
    log.info("3/%d  wheels for aarch64, 75 MB", steps)
    wheels = {site: _download_wheels(rows, building / f"wheels-{site}") for site, rows in WHEELS.items()}
    log.info("4/%d  unpacking", steps)
    try:
        _unpack(debs, wheels, root)
    except OSError as error:
        raise StorageError(f"the ARM system could not be unpacked in {building}: {error}; free some space") from error
    log.info("5/%d  trying it", steps)
    for site, program in TRY.items():
        _try(root, site, program)
    files = [*debs, *(wheel for rows in wheels.values() for wheel in rows)]
    manifest = {"version": VERSION, "files": {file.name: sha256_file(file) for file in sorted(files)}}
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    with suppress(OSError):  # something lies there
        os.rename(root, target)
    shutil.rmtree(building, ignore_errors=True)
    if not (target / "manifest.json").is_file():
        raise DeviceError(f"{target} is in the way and is not an ARM system of edgekit; remove it and try again")
    log.info("the ARM system is in %s", target)


def _check_machine(target: Path) -> None:
    lacking = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if lacking or platform.system() != "Linux" or platform.machine() != "x86_64":
        raise RuntimeMissingError(
            f"the ARM system is built with Debian's tools on x86-64 Linux; this is {platform.system()} on "
            f"{platform.machine()}, lacking {', '.join(lacking) or 'none of them'}; build it on Debian or Ubuntu and "
            f"copy it to {target}, or name its folder in EDGEKIT_EMULATOR_ROOT"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < NEEDED_BYTES:
        raise StorageError(
            f"{target.parent} has {free:,} bytes free, the ARM system needs {NEEDED_BYTES:,} while it is built; "
            "free some, or set EDGEKIT_CACHE to another disk"
        )


def _private_apt(folder: Path) -> list[str]:
    """``apt-get`` with lists, cache and status of its own, for arm64 and amd64; the system's stay as they are."""
    keyring = next((path for name in KEYRINGS if (path := Path("/usr/share/keyrings") / name).is_file()), None)
    if keyring is None:
        raise RuntimeMissingError("Debian's keys are not here; run: apt-get install debian-archive-keyring")
    for name in ("etc", "state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    suites = ("bookworm", "bookworm-backports")
    lines = [f"deb [signed-by={keyring}] {_mirror()} {suite} main" for suite in suites]
    (folder / "etc" / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = {
        "Dir::Etc": folder / "etc",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state" / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64,amd64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        **_proxies(),
    }
    return ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]


def _mirror() -> str:
    """The mirror of Debian that this machine is set up with, else Debian's own."""
    told = _output("apt-get", "indextargets", "--format", "$(REPO_URI)").split()
    return next((uri.rstrip("/") for uri in told if uri.rstrip("/").endswith("/debian")), MIRROR)


def _proxies() -> dict[str, str]:
    """The proxies of the system's apt, which the private one would not know."""
    found = {}
    for scheme in ("http", "https"):
        key = f"Acquire::{scheme}::Proxy"
        told = _output("apt-config", "shell", "P", key)
        if told.startswith("P='"):
            found[key] = told[3:].rstrip().rstrip("'")
    return found


def _download_debs(apt: Sequence[str], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    failed = "Debian's packages could not be downloaded"
    cache = folder.parent / "apt" / "cache" / "archives"
    _run([*apt, "-y", "--download-only", "--no-install-recommends", "install", *SYSTEM], failed)
    if not list(folder.glob("qemu-user_*.deb")):
        _run([*apt, "download", f"{EMULATOR}/bookworm-backports"], failed, cwd=folder)
    return [*sorted(cache.glob("*.deb")), *sorted(folder.glob("*.deb"))]


def _download_wheels(rows: Mapping[str, str], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(
        "".join(f"{row} --hash=sha256:{digest}\n" for row, digest in rows.items()), encoding="utf-8"
    )
    platforms = [part for name in PLATFORMS for part in ("--platform", f"{name}_aarch64")]
    target = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", *platforms]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run(
        [*pip, "--require-hashes", *target, "--dest", str(folder), "-r", str(requirements)],
        "the wheels for aarch64 could not be downloaded",
    )
    return sorted(folder.glob("*.whl"))


def _unpack(debs: Sequence[Path], wheels: Mapping[str, Sequence[Path]], root: Path) -> None:
    for deb in debs:
        if deb.name.startswith("qemu-user_"):
            _take_emulator(deb, root / "qemu-aarch64")
        else:
            _run(["dpkg-deb", "--extract", str(deb), str(root / "system")], f"{deb.name} could not be unpacked")
    for site, files in wheels.items():
        for wheel in files:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(root / site)


def _take_emulator(deb: Path, target: Path) -> None:
    """One program of the 60 that the package holds."""
    with children.start(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.name == "./usr/bin/qemu-aarch64":
                    source = archive.extractfile(member)
                    assert source is not None
                    with open(target, "wb") as out:
                        shutil.copyfileobj(source, out)
                    target.chmod(0o755)
                    process.kill()
                    return
    raise DeviceError(f"{deb.name} holds no qemu-aarch64; tell edgekit's authors")


def _try(root: Path, site: str, program: str) -> None:
    """Imports the runtimes in the emulator, which also leaves their compiled bytecode for every later start."""
    python = root / "system" / "usr" / "bin" / "python3.11"
    environment = {name: os.environ.get(name, "") for name in ("PATH", "ORT_DISABLE_TELEMETRY")}
    environment["PYTHONPATH"] = str(root / site)
    emulator = [str(root / "qemu-aarch64"), "-cpu", "cortex-a53", "-L", str(root / "system")]
    said = _run([*emulator, str(python), "-s", "-P", "-c", program], "the ARM system does not run", env=environment)
    if said.strip() != "aarch64":
        raise DeviceError(f"the ARM system says it is {said.strip()!r}, wanted aarch64")


def _output(*command: str) -> str:
    """What a program of the system says, whether it likes to or not."""
    return str(children.run(command).stdout)


def _run(command: Sequence[str], failed: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = children.run(command, cwd=cwd, env=env)
    log.debug("%s: %s%s", command[0], done.stdout, done.stderr)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise DeviceError(f"{failed}: {lines[-1][:300]}; try again (what is there is kept), or see --debug")
    return str(done.stdout)


def main() -> int:
    """Builds the root for the tests (``scripts/test``); a machine where it cannot be built is not a failure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build_root()
    except (RuntimeMissingError, DeviceError, StorageError) as error:
        log.info("skipped: the tests on the ARM emulator, since %s", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
