"""The kernel's side of a file system in user space, spoken without a library: FUSE 7.31 over /dev/fuse.

Its structures are those of `linux/fuse.h`. `python -m tests.campaign.powercut_wire DURABLE MOUNT` mounts a
`cutting_fs.Disk` and serves it, one request after the other, until it is killed. Mounting needs CAP_SYS_ADMIN.
"""

import argparse
import ctypes
import errno
import itertools
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from tests.campaign.cutting_fs import Disk, Node

_IN = struct.Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_ENTRY = struct.Struct("<4Q2I")
_ATTR_OUT = struct.Struct("<QII")
_OPEN_OUT = struct.Struct("<QII")
_INIT_OUT = struct.Struct("<4I2H2I2HI7I")
_STATFS = struct.Struct("<5Q4I24x")
_DIRENT = struct.Struct("<QQII")
_SIZE, _MODE, _MTIME = 1 << 3, 1 << 0, 1 << 5  # FATTR_…, of a SETATTR
_BIG_WRITES = 1 << 5
_KEEP_CACHE = 1 << 1
_FOREVER = 1 << 30
"""Seconds for which the kernel may hold what it knows: nobody else changes anything here."""
MOST = 128 * 1024
"""Bytes of one write."""
_NODEV, _NOSUID, _DETACH = 4, 2, 2
_NO_REPLY = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET

Answer = bytes


class Server:
    """Answers the kernel's requests from a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open_folders: dict[int, list[tuple[str, Node]]] = {}
        self._handles = itertools.count(1)
        self._ways: dict[int, Callable[[int, bytes], Answer]] = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 8: self._mknod, 9: self._mkdir, 10: self._remove,
            11: self._remove, 12: self._rename, 13: self._link, 14: self._open, 15: self._read, 16: self._write,
            17: self._statfs, 18: self._nothing, 20: self._sync, 25: self._nothing, 26: self._init, 27: self._opendir,
            28: self._readdir, 29: self._releasedir, 30: self._sync, 35: self._create, 45: self._rename2,
        }  # fmt: skip

    def serve(self, device: int) -> None:
        """Until the mount is gone."""
        while True:
            try:
                request = os.read(device, MOST + 65536)
            except InterruptedError:
                continue
            except OSError as problem:
                if problem.errno == errno.ENOENT:  # the request was taken back
                    continue
                return
            reply = self.reply(request)
            if reply is not None:
                try:
                    os.write(device, reply)
                except FileNotFoundError:
                    continue

    def reply(self, request: bytes) -> bytes | None:
        """The answer to one request; None where none is due."""
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        body = request[_IN.size :]
        if opcode in _NO_REPLY:
            self._forget(opcode, node, body)
            return None
        way = self._ways.get(opcode)
        if way is None:
            return _OUT.pack(_OUT.size, -errno.ENOSYS, unique)
        try:
            answer = way(node, body)
        except OSError as problem:
            return _OUT.pack(_OUT.size, -(problem.errno or errno.EIO), unique)
        return _OUT.pack(_OUT.size + len(answer), 0, unique) + answer

    # --- nodes ------------------------------------------------------------------------------------------------

    def _lookup(self, folder: int, body: bytes) -> Answer:
        return self._entry(self._disk.child(folder, _name(body)))

    def _forget(self, opcode: int, number: int, body: bytes) -> None:
        if opcode == 2:
            self._disk.forget(number, *struct.unpack_from("<Q", body))
        elif opcode == 42:
            for one, lookups in struct.iter_unpack("<QQ", body[8:]):
                self._disk.forget(one, lookups)

    def _getattr(self, number: int, _: bytes) -> Answer:
        return _ATTR_OUT.pack(_FOREVER, 0, 0) + _attributes(self._disk.node(number))

    def _setattr(self, number: int, body: bytes) -> Answer:
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        node = self._disk.node(number)
        if valid & _SIZE:
            self._disk.resize(number, size)
        if valid & _MODE:
            (mode,) = struct.unpack_from("<I", body, 68)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if valid & _MTIME:
            (node.changed,) = struct.unpack_from("<Q", body, 40)
        return self._getattr(number, b"")

    def _mknod(self, folder: int, body: bytes) -> Answer:
        mode, _, umask = struct.unpack_from("<III", body)
        return self._entry(self._disk.make(folder, _name(body[16:]), mode & ~umask))

    def _mkdir(self, folder: int, body: bytes) -> Answer:
        mode, umask = struct.unpack_from("<II", body)
        return self._entry(self._disk.make(folder, _name(body[8:]), stat.S_IFDIR | (mode & ~umask)))

    def _remove(self, folder: int, body: bytes) -> Answer:
        self._disk.remove(folder, _name(body))
        return b""

    def _rename(self, folder: int, body: bytes, skip: int = 8) -> Answer:
        (onto,) = struct.unpack_from("<Q", body)
        old, new, _ = body[skip:].split(b"\0", 2)
        self._disk.rename(folder, os.fsdecode(old), onto, os.fsdecode(new))
        return b""

    def _rename2(self, folder: int, body: bytes) -> Answer:
        if struct.unpack_from("<I", body, 8) != (0,):
            raise OSError(errno.EINVAL, "a plain rename is all there is")
        return self._rename(folder, body, 16)

    def _link(self, folder: int, body: bytes) -> Answer:
        return self._entry(self._disk.link(*struct.unpack_from("<Q", body), folder, _name(body[8:])))

    @staticmethod
    def _entry(node: Node) -> Answer:
        node.lookups += 1
        return _ENTRY.pack(node.number, 0, _FOREVER, _FOREVER, 0, 0) + _attributes(node)

    # --- content ----------------------------------------------------------------------------------------------

    def _open(self, number: int, _: bytes) -> Answer:
        self._disk.node(number)
        return _OPEN_OUT.pack(0, _KEEP_CACHE, 0)

    def _create(self, folder: int, body: bytes) -> Answer:
        _, mode, umask, _ = struct.unpack_from("<4I", body)
        return self._entry(self._disk.make(folder, _name(body[16:]), mode & ~umask)) + _OPEN_OUT.pack(0, _KEEP_CACHE, 0)

    def _read(self, number: int, body: bytes) -> Answer:
        _, at, size = struct.unpack_from("<QQI", body)
        return bytes(memoryview(self._disk.node(number).data)[at : at + size])

    def _write(self, number: int, body: bytes) -> Answer:
        _, at, size = struct.unpack_from("<QQI", body)
        self._disk.write(number, at, body[40 : 40 + size])
        return struct.pack("<II", size, 0)

    def _sync(self, number: int, _: bytes) -> Answer:
        self._disk.sync(number)
        return b""

    def _opendir(self, folder: int, _: bytes) -> Answer:
        handle = next(self._handles)
        self._open_folders[handle] = list(self._disk.listed(folder))
        return _OPEN_OUT.pack(handle, 0, 0)

    def _readdir(self, _: int, body: bytes) -> Answer:
        handle, begin, size = struct.unpack_from("<QQI", body)
        told = b""
        for place, (name, node) in enumerate(self._open_folders[handle][begin:], begin + 1):
            raw = os.fsencode(name)
            entry = _DIRENT.pack(node.number, place, len(raw), stat.S_IFMT(node.mode) >> 12) + raw
            entry += bytes(-len(entry) % 8)
            if len(told) + len(entry) > size:
                break
            told += entry
        return told

    def _releasedir(self, _: int, body: bytes) -> Answer:
        self._open_folders.pop(*struct.unpack_from("<Q", body))
        return b""

    # --- the rest ---------------------------------------------------------------------------------------------

    @staticmethod
    def _init(_: int, body: bytes) -> Answer:
        major, _, readahead, _ = struct.unpack_from("<4I", body)
        if major != 7:
            raise OSError(errno.EPROTO, "another FUSE")
        return _INIT_OUT.pack(7, 31, readahead, _BIG_WRITES, 16, 12, MOST, 1, 0, 0, 0, *[0] * 7)

    @staticmethod
    def _statfs(_: int, __: bytes) -> Answer:
        return _STATFS.pack(1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19, 4096, 255, 4096, 0)

    @staticmethod
    def _nothing(_: int, __: bytes) -> Answer:
        return b""


def _name(body: bytes) -> str:
    return os.fsdecode(body.split(b"\0", 1)[0])


def _attributes(node: Node) -> bytes:
    size, at = len(node.data), int(node.changed)
    who = (os.getuid(), os.getgid())
    return _ATTR.pack(node.number, size, -(-size // 512), at, at, at, 0, 0, 0, node.mode, node.links, *who, 0, 4096, 0)


def mount(where: Path) -> int:
    """Mount there; the device to serve. Raises OSError where this is not allowed."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"cutting", os.fsencode(where), b"fuse", _NODEV | _NOSUID, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount: {os.strerror(number)}")
    return device


def unmount(where: Path) -> None:
    """Take the mount away, whoever still holds something in it."""
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(where), _DETACH)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("durable", type=Path)
    parser.add_argument("mount", type=Path)
    parser.add_argument("--leak", type=float, default=0.0)
    parser.add_argument("--seed", default="0")
    given = parser.parse_args()
    server = Server(Disk(given.durable, leak=given.leak, seed=given.seed))
    device = mount(given.mount)
    print("mounted", flush=True)
    server.serve(device)


if __name__ == "__main__":
    main()
