"""DICOM ECG objects, damaged: on the whole way from the check before the answer to the upload file.

An input is one object. Only the errors of our tree come out; a damaged object is never taken for a fault of our own
disk (F5); what the check refuses the reader refuses too; and what is read is understood, compared and written as an
upload, or held, with its samples proved.
"""

import io
import random
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge.dispatch.understand import understand_recording
from bridge.errors import BadInput, CannotScale
from bridge.formats.dicom.lint import lint_object
from bridge.formats.dicom.reader import EcgObject, read_object
from bridge.formats.dicom.sameness import digests
from bridge.formats.dicom.structure import check_structure
from bridge.formats.ecg.proof import Form
from bridge.formats.ecg.upload import write_upload
from bridge.mapping.rules import load_rules
from bridge.settings import Settings
from tests.campaign.fuzz_findings import Findings, raised
from tests.campaign.results import Result, Say
from tests.unit.dicom.mutations import every_kind, mutated

LONGEST = 2.0
"""Seconds of processor time for one small object; a usual one takes some thousandths."""
_LENGTHS = (0, 1, 2, 3, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_VALUES = (
    b"", b"\0", b" ", b"0", b"-1", b"NaN", b"Infinity", b"1E400", b"1E-400", b"1\\2\\3", b"500\\", b"00000000",
    b"99991231", b"19700231", b"=^=", b"a" * 70, b"\x1b$B", b"\xff\xfe", b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2.2", b"ISO 2022 IR 87", b"\\ISO_IR 192", b"SS", b"MB", b"ORIGINAL", b"YES",
)  # fmt: skip


def damaged(raw: bytes, dice: random.Random) -> bytes:
    """An object changed where its grammar hurts, or in bare bytes, or in both."""
    if dice.random() < 0.5:
        raw = _element(raw, dice)
    if dice.random() < 0.1:
        raw = raw[: dice.randrange(len(raw) + 1)]
    return mutated(raw, dice) if raw and dice.random() < 0.6 else raw


def _element(raw: bytes, dice: random.Random) -> bytes:
    """Somewhere behind an explicit VR, another length or another value; the lengths around it stay as they were."""
    places = [at for at in range(132, min(len(raw) - 8, 6000)) if raw[at : at + 2].isalpha() and raw[at - 2] < 0x60]
    if not places:
        return raw
    at = dice.choice(places)
    long = raw[at : at + 2] in {b"SQ", b"OB", b"OW", b"UN", b"UT"}
    size = at + (4 if long else 2)
    form = "<L" if long else "<H"
    if dice.random() < 0.4:
        most = 0xFFFFFFFF if long else 0xFFFF
        return raw[:size] + struct.pack(form, min(dice.choice(_LENGTHS), most)) + raw[size + struct.calcsize(form) :]
    (length,) = struct.unpack_from(form, raw, size)
    begin = size + struct.calcsize(form)
    value = dice.choice(_VALUES)
    value += b" " * (len(value) % 2)
    return raw[:size] + struct.pack(form, len(value)) + value + raw[min(begin + length, len(raw)) :]


class Reading:
    """Everything that is done with an object, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rules = load_rules(None, name="defaults")
        self._settings = Settings.model_validate({"recordings": {"several_groups": "each"}})

    def fault(self, raw: bytes, found: Findings) -> str:
        """What is wrong with how an object is taken; empty where nothing is."""
        self._path.write_bytes(raw)
        began = time.process_time()
        try:
            checked, read = _refusal(check_structure, self._path), _refusal(read_object, self._path)
            _refusal(lint_object, self._path)
            if isinstance(checked, BadInput) and not isinstance(read, BadInput):
                return "refused before the answer, and read after it"
            if isinstance(read, EcgObject):
                found.add("read")
                self._go_on(read)
        except Exception as problem:  # noqa: BLE001  whatever it raises is the finding
            return raised(problem)
        return "" if time.process_time() - began < LONGEST else "it took too long"

    def _go_on(self, read: EcgObject) -> None:
        understand_recording(read, "CART", self._rules, self._settings)
        digests(read)
        for group in read.recording.selected("each").groups:
            with self._path.open("rb") as payload:
                _refusal(write_upload, group, payload, io.BytesIO(), record="r1", preferred=Form.WFDB)


def _refusal(way: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What it gives, or how it refuses."""
    try:
        return way(*given, **named)
    except (BadInput, CannotScale) as problem:
        return problem


def run(seed: int, minutes: float, say: Say) -> Result:
    """Objects for so long, on one file."""
    found = Findings("objects", seed, say)
    kinds = every_kind()
    with tempfile.TemporaryDirectory() as folder:
        reading = Reading(Path(folder) / "object.dcm")

        def batch() -> None:
            for _ in range(100):
                raw = damaged(found.dice.choice(kinds), found.dice)
                found.add("inputs")
                if wrong := reading.fault(raw, found):
                    found.note(wrong, raw)

        return found.go_on(minutes, batch)
