"""Holds the order of a message's segments against a structure: what is missing, unknown, misplaced or too many.

Unlike a parser that gives up or drops what it does not know, this names everything and goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A segment or a group. `most` is -1 for any number; `choice`: one of the children stands, not all."""

    name: str
    least: int = 1
    most: int = 1
    children: tuple["Node", ...] = ()
    choice: bool = False

    def names(self) -> Iterator[str]:
        """All segment names in it."""
        if not self.children:
            yield self.name
        for child in self.children:
            yield from child.names()


@dataclass(frozen=True, slots=True)
class Misfit:
    """`kind` is missing, unknown, misplaced. `index` is the segment's place (-1 where it is missing)."""

    kind: str
    name: str
    index: int = -1
    group: str = ""


def compare(names: Sequence[str], root: Node) -> list[Misfit]:
    """Every misfit of these segment names with the structure, in order of appearance."""
    known = set(root.names())
    misfits = [Misfit("unknown", name, index) for index, name in enumerate(names) if name not in known]
    walk = _Walk([(name, index) for index, name in enumerate(names) if name in known])
    walk.sequence(root, frozenset())
    misfits += walk.misfits
    misfits += [Misfit("misplaced", name, index) for name, index in walk.left[walk.at :]]
    return sorted(misfits, key=lambda m: m.index if m.index >= 0 else len(names))


class _Walk:
    def __init__(self, left: list[tuple[str, int]]) -> None:
        self.left = left
        self.at = 0
        self.misfits: list[Misfit] = []

    def sequence(self, node: Node, after: frozenset[str]) -> None:
        """Take the children in their order; `after` are names that may stand behind this group."""
        for position, child in enumerate(node.children):
            later = after.union(*(set(c.names()) for c in node.children[position + 1 :]))
            self.child(child, node.name, later)

    def child(self, node: Node, group: str, later: frozenset[str]) -> None:
        count = 0
        while (node.most < 0 or count < node.most) and self._begins(node, later):
            before = self.at
            if not node.children:
                self.at += 1
            elif node.choice:
                self._one_of(node, later)
            else:
                self.sequence(node, later | set(node.names()) if node.most != 1 else later)
            if self.at == before:
                break
            count += 1
        if count < node.least:
            missing = next((n for n in node.names()), node.name) if not node.choice else "one of " + node.name
            self.misfits.append(Misfit("missing", missing, group=group))

    def _one_of(self, node: Node, later: frozenset[str]) -> None:
        name = self.left[self.at][0]
        chosen = next(c for c in node.children if name in set(c.names()))
        self.child(chosen, node.name, later)

    def _begins(self, node: Node, later: frozenset[str]) -> bool:
        if self.at >= len(self.left):
            return False
        name = self.left[self.at][0]
        if not node.children:
            return name == node.name
        if name in _first(node):
            return True
        # A group whose own beginning is missing is entered all the same, unless the name has its place further on.
        return name in set(node.names()) and name not in later


def _first(node: Node) -> set[str]:
    if not node.children:
        return {node.name}
    if node.choice:
        return set(node.names())
    first: set[str] = set()
    for child in node.children:
        first |= _first(child)
        if child.least > 0:
            break
    return first
