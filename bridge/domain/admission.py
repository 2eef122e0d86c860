"""ADT events: what each asks of the patient record (hl7.md §4.2, HL7 v2.5.1 §3.3)."""

from enum import StrEnum


class Admission(StrEnum):
    """What an ADT event asks for."""

    UPDATE = "update"  # the record of the person and the visit
    MERGE = "merge"  # one identifier goes into another
    RENAME = "rename"  # the same person has a new identifier
    VISIT = "visit"  # an account or visit has another number
    MOVE = "move"  # an identifier, account or visit goes to another person
    DELETE = "delete"
    NOTE = "note"  # a link or its end: recorded only


EVENTS: dict[str, Admission] = {
    **dict.fromkeys(
        (
            "A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A09", "A10", "A11", "A12", "A13", "A27", "A28",
            "A31", "A38",
        ),
        Admission.UPDATE,
    ),
    **dict.fromkeys(("A18", "A30", "A34", "A35", "A36", "A39", "A40"), Admission.MERGE),
    **dict.fromkeys(("A46", "A47"), Admission.RENAME),
    **dict.fromkeys(("A41", "A42", "A49", "A50", "A51"), Admission.VISIT),
    **dict.fromkeys(("A43", "A44", "A45"), Admission.MOVE),
    **dict.fromkeys(("A23", "A29"), Admission.DELETE),
    **dict.fromkeys(("A24", "A37"), Admission.NOTE),
}  # fmt: skip

VISIT_STATUS: dict[str, str] = {
    "A01": "admitted",
    "A02": "admitted",
    "A03": "discharged",
    "A04": "registered",
    "A05": "pre-admitted",
    "A06": "admitted",
    "A07": "registered",
    "A09": "departing",
    "A10": "arrived",
    "A11": "cancelled",
    "A12": "admitted",
    "A13": "admitted",
    "A27": "cancelled",
    "A38": "cancelled",
}
"""What a visit is after the event; the others say nothing of it."""

ENDS_VISIT = frozenset({"A11", "A27", "A38"})
"""The visit never was: its orders may be cancelled, where the site wants it."""
