"""The reader's speed: header and fifteen fields of a 16-segment ORM, beside the two parsers of others, in one process.

Each reads the fields in its own way. Figures are medians of rounds, the three taking turns.
"""

import statistics
import time
from collections.abc import Callable

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from bridge.formats.hl7.reader import read
from tests.bench.hl7_messages import order
from tests.bench.hl7_peers import have_python_hl7
from tests.bench.report import row

FIELDS = (
    ("PID", 3, 1), ("PID", 3, 4), ("PID", 5, 1), ("PID", 5, 2), ("PID", 7, 1), ("PID", 8, 1), ("PV1", 2, 1),
    ("PV1", 19, 1), ("ORC", 1, 1), ("ORC", 2, 1), ("ORC", 2, 2), ("OBR", 4, 1), ("OBR", 4, 2), ("OBR", 18, 1),
    ("DG1", 3, 1),
)  # fmt: skip
HEADER = (("MSH", 9, 1), ("MSH", 10, 1))
ROUNDS = 30

Reader = Callable[[bytes], list[str]]


def bridge_reader() -> Reader:
    """Lazy: a segment is split when a field of it is asked for."""
    addresses = [f"{s}[1]-{f}.{c}" for s, f, c in FIELDS]

    def values(raw: bytes) -> list[str]:
        message = read(raw)
        header = message.header
        return [header.type, header.control_id, *(message.find(address)[0].value for address in addresses)]

    return values


def python_hl7_reader() -> Reader:
    """It splits everything, and unescapes what is asked for."""
    import hl7  # noqa: PLC0415  a peer that need not be installed

    keys = [f"{s}.F{f}.R1.C{c}" for s, f, c in (*HEADER, *FIELDS)]

    def values(raw: bytes) -> list[str]:
        message = hl7.parse(raw.decode())
        return [message[key] for key in keys]

    return values


def hl7apy_reader() -> Reader:
    """Tolerant; groups are not looked for, which would take it twice as long."""

    def values(raw: bytes) -> list[str]:
        message = parse_message(raw.decode(), validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
        found: list[str] = []
        for segment, field, component in (*HEADER, *FIELDS):
            whole = getattr(getattr(message, segment.lower())[0], f"{segment}_{field}".lower())
            parts = [child for child in whole.children if child.name.endswith(f"_{component}")]
            found.append(parts[0].value if parts else whole.value)
        return found

    return values


def bench() -> None:
    """Microseconds a message."""
    readers = {"bridge": bridge_reader()}
    if have_python_hl7():
        readers["python-hl7"] = python_hl7_reader()
    readers["hl7apy"] = hl7apy_reader()
    raw = order(1, 1)
    values = {name: reader(raw) for name, reader in readers.items()}
    if any(found != values["bridge"] for found in values.values()):
        raise SystemExit(f"the readers do not agree: {values}")
    took: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, reader in readers.items():
            batch = [order(n, 1) for n in range(2 if name == "hl7apy" else 50)]
            began = time.perf_counter()
            for message in batch:
                reader(message)
            took[name].append((time.perf_counter() - began) / len(batch) * 1e6)
    medians = {name: statistics.median(times) for name, times in took.items()}
    segments = raw.count(b"\r")
    for name, micros in medians.items():
        ratio = "" if name == "bridge" else f", {micros / medians['bridge']:.1f} x the bridge's"
        row(f"read header, {len(FIELDS)} fields of {segments} segments: {name}", f"{micros:.0f} µs{ratio}")
