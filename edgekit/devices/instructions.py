"""Counting the ARM instructions of a run: a plugin for qemu, compiled on this machine, and marks that the worker sets.

The plugin adds up the instructions of every block of code that is executed, and writes the sum down when the program
makes a system call that does not exist. The API is that of qemu 4.2 to 8.1 (qemu-plugin.h, version 1).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from edgekit import children
from edgekit.data.cache import cache_folder
from edgekit.errors import DeviceError, RuntimeMissingError
from edgekit.outputs import publishing

MARK: Final = 9999
"""The number of no system call of Linux: the kernel refuses it, the plugin sees it."""
SOURCE: Final = """\
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The part of qemu-plugin.h, version 1, that is used here. */
#define SHOWN __attribute__((visibility("default")))
typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
SHOWN int qemu_plugin_version = 1;
enum { ADD_U64 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
typedef void (*syscall_t)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_t);

static uint64_t count;
static FILE *out;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    if (number == MARK) {
        fprintf(out, "%" PRIu64 "\\n", count);
        fflush(out);
    }
}

SHOWN int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "a");
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
"""


def emulator_with_plugins() -> str:
    """``$EDGEKIT_QEMU``, else the ``qemu-aarch64`` of the search path, if it loads plugins.

    Raises:
        RuntimeMissingError: no emulator is installed, or it loads no plugins.
    """
    found = os.environ.get("EDGEKIT_QEMU") or shutil.which("qemu-aarch64")
    way = (
        "Debian 12's own does (apt-get install qemu-user, version 7.2); name another in the environment variable "
        "EDGEKIT_QEMU. Static ones load none, and that of edgekit's ARM system is static"
    )
    if found is None:
        raise RuntimeMissingError(f"counting instructions needs a qemu-aarch64 that loads plugins: {way}")
    try:
        told = children.run([found, "--help"], timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeMissingError(
            f"{found} cannot be run ({error}); instructions are counted by qemu: {way}"
        ) from error
    if "-plugin" not in told:
        raise RuntimeMissingError(f"{found} loads no plugins, which counting instructions needs: {way}")
    return found


def plugin() -> Path:
    """The plugin, compiled once and kept in edgekit's cache.

    Raises:
        RuntimeMissingError: there is no C compiler.
        DeviceError: it does not compile.
    """
    place = cache_folder() / "emulator" / f"count-{hashlib.sha256(SOURCE.encode()).hexdigest()[:16]}.so"
    if place.is_file():
        return place
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RuntimeMissingError("counting instructions needs a C compiler, for a plugin of qemu: apt-get install gcc")
    place.parent.mkdir(parents=True, exist_ok=True)
    with publishing(place) as temporary:
        given = [
            "-O2",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            f"-DMARK={MARK}",
            "-o",
            str(temporary),
            "-x",
            "c",
            "-",
        ]
        done = children.run([compiler, *given], input=SOURCE)
        if done.returncode != 0:
            raise DeviceError(f"{compiler} does not compile the plugin that counts: {done.stderr.strip()[:300]}")
    return place


def mark() -> None:
    """Has the plugin write its count down; without one nothing happens."""
    ctypes.CDLL(None).syscall(MARK)
