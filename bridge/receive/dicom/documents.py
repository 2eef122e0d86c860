"""What carts send beside the waveform: PDF, structured reports, presentation states. Taken, noted, and not kept.

A cart that may not send its PDF often sends nothing at all (dicom_ecg.md §3.1). Off unless a site asks for it.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.receive.dicom.intake import Announced, Answer, DicomIntake

DOCUMENT_SOP_CLASSES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.104.1": "Encapsulated PDF Storage",
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.77": "Waveform Annotation SR Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
}
"""Names as in PS3.6 table A-1 and PS3.4 table B.5-1."""


class Discarding:
    """One document on its way in: its bytes are counted and hashed, and nothing of it is written."""

    def __init__(self, intake: "DicomIntake", announced: "Announced") -> None:
        self._intake = intake
        self._announced = announced
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, fragment: memoryview) -> None:
        """The next bytes."""
        self._size += len(fragment)
        self._digest.update(fragment)

    def finish(self) -> "Answer | None":
        """It is noted: its answer; None where nothing may be said (A3)."""
        return self._intake.note_document(self._announced, self._digest.hexdigest(), self._size)

    def abandon(self) -> None:
        """There is nothing to let go of."""
