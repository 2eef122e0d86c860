"""A disk that loses what was not synced: every write stays in this process's memory until an fsync carries it over.

The durable side is a folder of plain files: one for each file's synced content, one list for each folder's synced
entries. A kill of the process is a power cut: what the next one finds is what was synced, and nothing else. A file's
content and its name are durable apart: the content by an fsync of the file, the name by an fsync of its folder
(fsync(2)); a file whose name is durable and whose content is not comes back empty.

`leak` is the share of changes that reach the durable side unasked, as a kernel writes back when it likes: of a write
some sectors, of a name the change of it. So what is kept is any part of what was not synced, in any order.
"""

import errno
import json
import os
import random
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 1
SECTOR = 512
"""Bytes that reach a disk together or not at all."""


@dataclass(slots=True)
class Node:
    """A file or a folder as it is while there is power."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    entries: dict[str, int] = field(default_factory=dict)
    links: int = 1
    lookups: int = 0
    changed: float = field(default_factory=time.time)
    dirty: list[tuple[int, int]] = field(default_factory=list)  # of data, from and to
    synced: int = 0  # bytes that the durable file has

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Disk:
    """Nodes by number, and the folder that holds what is durable of them. Raises OSError as a file system does."""

    def __init__(self, durable: Path, *, leak: float = 0.0, seed: object = 0) -> None:
        self._durable = durable
        self._leak = leak
        self._dice = random.Random(f"disk {seed}")
        self._nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o700)}
        self._modes: dict[int, int] = {}  # of every node that ever was: its name may be durable when it is gone
        self._kept: dict[int, dict[str, int]] = {ROOT: {}}  # entries of folders on the durable side
        self._found(ROOT)
        self._next = max([*self._nodes, *(int(path.stem) for path in durable.iterdir())]) + 1

    def _found(self, number: int) -> None:
        """What is durable of a folder, and of all in it."""
        path = self._durable / f"{number}.folder"
        listed: dict[str, list[int]] = json.loads(path.read_text()) if path.exists() else {}
        node = self._nodes[number]
        self._kept[number] = {name: to for name, (to, _) in listed.items()}
        for name, (to, mode) in listed.items():
            node.entries[name] = to
            self._modes[to] = mode
            if to in self._nodes:
                self._nodes[to].links += 1
                continue
            self._nodes[to] = Node(to, mode)
            if stat.S_ISDIR(mode):
                self._found(to)
            elif (content := self._durable / f"{to}.file").exists():
                self._nodes[to].data += content.read_bytes()
                self._nodes[to].synced = len(self._nodes[to].data)

    # --- looking ----------------------------------------------------------------------------------------------

    def node(self, number: int) -> Node:
        """A node that the kernel knows."""
        try:
            return self._nodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, "no such node") from None

    def child(self, folder: int, name: str) -> Node:
        """The node of that name."""
        try:
            return self._nodes[self.node(folder).entries[name]]
        except KeyError:
            raise OSError(errno.ENOENT, "no such name") from None

    def listed(self, folder: int) -> Iterator[tuple[str, Node]]:
        """The entries of a folder."""
        return ((name, self._nodes[number]) for name, number in list(self.node(folder).entries.items()))

    def forget(self, number: int, lookups: int) -> None:
        """The kernel holds a node no more; one without a name is gone then."""
        node = self._nodes.get(number)
        if node is not None:
            node.lookups -= lookups
            if node.lookups <= 0 and node.links <= 0:
                del self._nodes[number]

    # --- changes, in memory -----------------------------------------------------------------------------------

    def make(self, folder: int, name: str, mode: int) -> Node:
        """A new file or folder."""
        if name in self.node(folder).entries:
            raise OSError(errno.EEXIST, "the name is taken")
        node = self._nodes[self._next] = Node(self._next, mode)
        self._next += 1
        self._modes[node.number] = mode
        if node.is_folder:
            self._kept[node.number] = {}
        self._enter(folder, {name: node.number})
        return node

    def link(self, number: int, folder: int, name: str) -> Node:
        """One more name of a file."""
        if name in self.node(folder).entries:
            raise OSError(errno.EEXIST, "the name is taken")
        node = self.node(number)
        node.links += 1
        self._enter(folder, {name: number})
        return node

    def remove(self, folder: int, name: str) -> None:
        """A name goes; what it named goes with its last name."""
        node = self.child(folder, name)
        if node.entries:
            raise OSError(errno.ENOTEMPTY, "the folder holds something")
        self._enter(folder, {name: None})
        self._unlinked(node)

    def rename(self, folder: int, name: str, onto: int, new: str) -> None:
        """Another name, in the place of what may have it."""
        node = self.child(folder, name)
        before = self.node(onto).entries.get(new)
        if before == node.number:
            return
        if before is not None:
            self._unlinked(self._nodes[before])
        leaks = self._leaks()  # both sides or none: a journal keeps a rename whole
        self._enter(onto, {new: node.number}, leaks=leaks)
        self._enter(folder, {name: None}, leaks=leaks)

    def _unlinked(self, node: Node) -> None:
        node.links -= 1
        self.forget(node.number, 0)

    def _enter(self, folder: int, change: dict[str, int | None], *, leaks: bool | None = None) -> None:
        node = self.node(folder)
        _apply(node.entries, change)
        node.changed = time.time()
        if self._leaks() if leaks is None else leaks:
            _apply(self._kept[folder], change)
            self._keep_folder(folder)

    def write(self, number: int, at: int, data: bytes) -> None:
        """Bytes at a place; a gap before them is zeros."""
        node = self.node(number)
        if at > len(node.data):
            node.dirty.append((len(node.data), at))
            node.data += bytes(at - len(node.data))
        node.data[at : at + len(data)] = data
        node.dirty.append((at, at + len(data)))
        node.changed = time.time()
        if self._leaks():
            first, last = at // SECTOR, (at + len(data) - 1) // SECTOR
            some = [n for n in range(first, last + 1) if self._dice.random() < 0.5]
            self._keep_file(node, [(n * SECTOR, min((n + 1) * SECTOR, len(node.data))) for n in some])

    def resize(self, number: int, size: int) -> None:
        """Cut off, or filled with zeros."""
        node = self.node(number)
        if size > len(node.data):
            self.write(number, len(node.data), bytes(size - len(node.data)))
        else:
            del node.data[size:]
            node.dirty = [(a, min(b, size)) for a, b in node.dirty if a < size]
            node.changed = time.time()

    def _leaks(self) -> bool:
        return bool(self._leak) and self._dice.random() < self._leak

    # --- the durable side -------------------------------------------------------------------------------------

    def sync(self, number: int) -> None:
        """An fsync: of a file its content, of a folder its entries."""
        node = self.node(number)
        if node.is_folder:
            self._kept[number] = dict(node.entries)
            self._keep_folder(number)
        else:
            self._keep_file(node, node.dirty)
            node.dirty = []
            if node.synced != len(node.data):
                os.truncate(self._durable / f"{number}.file", len(node.data))
                node.synced = len(node.data)

    def _keep_file(self, node: Node, parts: list[tuple[int, int]]) -> None:
        opened = os.open(self._durable / f"{node.number}.file", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for begin, end in parts:
                os.pwrite(opened, memoryview(node.data)[begin:end], begin)
                node.synced = max(node.synced, end)
        finally:
            os.close(opened)

    def _keep_folder(self, number: int) -> None:
        """Replaced at once: a cut finds the list before or the one after."""
        listed = {name: [to, self._modes[to]] for name, to in self._kept[number].items()}
        fresh = self._durable / f"{number}.fresh"
        fresh.write_text(json.dumps(listed))
        fresh.replace(self._durable / f"{number}.folder")


def _apply(entries: dict[str, int], change: dict[str, int | None]) -> None:
    for name, number in change.items():
        if number is None:
            entries.pop(name, None)
        else:
            entries[name] = number
