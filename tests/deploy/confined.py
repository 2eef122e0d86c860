"""`python confined.py UNIT COMMAND…`: the command under the unit's system call filters, where no systemd runs.

What systemd makes of SystemCallFilter=, MemoryDenyWriteExecute=, RestrictAddressFamilies= and RestrictNamespaces=
(systemd.exec(5)), made by libseccomp in this process, which then becomes the command. Run by root it also sees no more
than ProtectProc= and PrivateUsers= leave: of the processes of this machine its own alone.
"""

import ctypes
import functools
import os
import subprocess
import sys
from errno import EAFNOSUPPORT, ENOSYS, EPERM
from pathlib import Path

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
NO_NEW_PRIVILEGES = 38
WRITE, EXECUTE = 2, 4
NAMESPACES = 0x7E020000  # every CLONE_NEW… of clone(2)
NEW_MOUNTS, NEW_USERS = 0x20000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
RECURSIVE, PRIVATE = 0x4000, 0x40000  # MS_REC, MS_PRIVATE
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}


class Compared(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """libseccomp, which systemd brings along."""
    found = ctypes.CDLL("libseccomp.so.2")
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = [ctypes.c_uint32]
    found.seccomp_load.argtypes = [ctypes.c_void_p]
    found.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Compared),
    ]
    return found


def said(unit: str, key: str) -> list[str]:
    """Every value that the unit gives to a key, in order."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{key}=")]


def expanded(names: list[str]) -> set[str]:
    """System calls by name, @groups opened."""
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        told = subprocess.run(
            ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
        ).stdout.split("\n")
        found |= expanded([line.strip() for line in told[1:] if line.strip() and not line.strip().startswith("#")])
    return found


def allowed(unit: str) -> set[str]:
    """What SystemCallFilter= leaves. @default is always among it."""
    found = expanded(["@default"])
    for value in said(unit, "SystemCallFilter"):
        if value.startswith("~"):
            found -= expanded(value[1:].split())
        else:
            found |= expanded(value.split())
    return found


def number(name: str) -> int:
    return int(library().seccomp_syscall_resolve_name(name.encode()))


def filtered(default: int, rules: list[tuple[str, int, list[Compared]]]) -> None:
    """Put one filter in force; of several, the kernel takes what is strictest."""
    context = library().seccomp_init(default)
    for name, action, compared in rules:
        array = (Compared * len(compared))(*compared)
        if number(name) >= 0:  # below: a call of another architecture
            done = library().seccomp_rule_add_array(context, action, number(name), len(compared), array)
            assert done == 0, (name, done)
    assert library().seccomp_load(context) == 0


def hide(unit: str) -> None:
    """Other processes are not to be seen: a /proc of its own that hides what may not be traced, and users of its own,
    whose rights end where those of another process begin. (Group 0, which is ours here, would see all.)
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if said(unit, "ProtectProc") == ["invisible"]:
        assert libc.unshare(NEW_MOUNTS) == 0, ctypes.get_errno()
        assert libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None) == 0, ctypes.get_errno()
        assert libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2,gid=1") == 0, ctypes.get_errno()
    if said(unit, "PrivateUsers") == ["yes"]:
        assert libc.unshare(NEW_USERS) == 0, ctypes.get_errno()
        for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            Path("/proc/self", name).write_text(text)


def confine(unit: str) -> None:
    """All filters of the unit, in force for this process and its children."""
    calls = allowed(unit)
    assert ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    if said(unit, "MemoryDenyWriteExecute") == ["yes"]:
        both = Compared(2, MASKED_EQUAL, WRITE | EXECUTE, WRITE | EXECUTE)
        later = Compared(2, MASKED_EQUAL, EXECUTE, EXECUTE)
        filtered(
            ALLOW,
            [("mmap", ERRNO | EPERM, [both]), *((n, ERRNO | EPERM, [later]) for n in ("mprotect", "pkey_mprotect"))],
        )
    families = {FAMILIES[name] for value in said(unit, "RestrictAddressFamilies") for name in value.split()}
    others = [Compared(0, EQUAL, family, 0) for family in range(64) if family not in families]
    filtered(ALLOW, [("socket", ERRNO | EAFNOSUPPORT, [one]) for one in others])
    if said(unit, "RestrictNamespaces") == ["yes"]:
        each = [Compared(0, MASKED_EQUAL, 1 << bit, 1 << bit) for bit in range(64) if NAMESPACES >> bit & 1]
        calls_of_it = [(name, ERRNO | EPERM, [one]) for name in ("clone", "unshare") for one in each]
        filtered(ALLOW, [*calls_of_it, ("clone3", ERRNO | ENOSYS, [])])  # its flags cannot be seen from here
    filtered(ERRNO | EPERM, [(name, ALLOW, []) for name in sorted(calls)])


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    if os.geteuid() == 0:
        hide(text)
    confine(text)
    os.execv(sys.argv[2], sys.argv[2:])
