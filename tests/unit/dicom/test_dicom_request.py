"""Association requests as devices in use write them: what is odd in one is no reason to abort it."""

import struct

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC

from bridge.receive.dicom.negotiation import CALLED_UNKNOWN, CALLING_UNKNOWN, Negotiator
from bridge.receive.dicom.operations import LITTLE_ENDIAN, VERIFICATION
from bridge.receive.dicom.pdus import Breach
from bridge.settings import DicomSettings

TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"
IMPLICIT = b"1.2.840.10008.1.2"
GOOD = [(1, VERIFICATION.encode(), [IMPLICIT]), (3, TWELVE_LEAD.encode(), [IMPLICIT])]
LENGTH, UID = (0x51, struct.pack(">L", 16384)), (0x52, b"1.2.3")


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def asked(
    *,
    called: bytes = b"CARDIOBRIDGE".ljust(16),
    calling: bytes = b"CART".ljust(16),
    contexts: list[tuple[int, bytes, list[bytes]]] | None = None,
    user: tuple[tuple[int, bytes], ...] = (LENGTH, UID),
    application: bytes = b"1.2.840.10008.3.1.1.1",
    tail: bytes = b"",
) -> bytes:
    body = struct.pack(">HH", 1, 0) + called + calling + bytes(32) + item(0x10, application)
    for number, uid, syntaxes in contexts or GOOD:
        inside = item(0x30, uid) + b"".join(item(0x40, one) for one in syntaxes)
        body += item(0x20, bytes((number, 0, 0, 0)) + inside)
    body += item(0x50, b"".join(item(*one) for one in user)) + tail
    return struct.pack(">BxL", 1, len(body)) + body


ODD = {
    "as it should be": asked(),
    "a version name of 17 characters": asked(user=(LENGTH, UID, (0x55, b"ABCDEFGHIJKLMNOPQ"))),
    "a version name with a NUL": asked(user=(LENGTH, UID, (0x55, b"ABC\0"))),
    "a version name in latin-1": asked(user=(LENGTH, UID, (0x55, b"M\xfcller"))),
    "an implementation uid of 70 characters": asked(user=(LENGTH, (0x52, b"1.2." + b"3" * 66))),
    "an implementation uid that is none": asked(user=(LENGTH, (0x52, b"MY CART"))),
    "no user information": asked(user=()),
    "the maximum length twice": asked(user=(LENGTH, LENGTH, UID)),
    "a user identity of no type": asked(user=(LENGTH, UID, (0x58, b"\x09\0\0\1A\0\0"))),
    "an extended negotiation of nothing": asked(user=(LENGTH, UID, (0x56, b"\0\0"))),
    "a role of nothing": asked(user=(LENGTH, UID, (0x54, b"\0\0"))),
    "a called title with NULs": asked(called=b"CARDIOBRIDGE\0\0\0\0"),
    "a calling title with NULs": asked(calling=b"CART" + bytes(12)),
    "a calling title with a backslash": asked(calling=b"A\\B".ljust(16)),
    "a calling title in latin-1": asked(calling=b"M\xfcller".ljust(16)),
    "a blank calling title": asked(calling=b" " * 16),
    "an application context with a NUL": asked(application=b"1.2.840.10008.3.1.1.1\0"),
    "uids with NULs": asked(contexts=[(n, uid + b"\0", [IMPLICIT + b"\0"]) for n, uid, _ in GOOD]),
    "uids with blanks": asked(contexts=[(n, uid + b" ", [IMPLICIT + b" "]) for n, uid, _ in GOOD]),
    "a trailing byte": asked(tail=b"\0"),
    "a private context of 70 characters": asked(contexts=[*GOOD, (5, b"1.2." + b"3" * 66, [IMPLICIT])]),
    "a private context in latin-1": asked(contexts=[*GOOD, (5, b"1.2.\xe9", [IMPLICIT])]),
    "a private context without a uid": asked(contexts=[*GOOD, (5, b"", [IMPLICIT])]),
    "a context without a transfer syntax": asked(contexts=[*GOOD, (5, TWELVE_LEAD.encode(), [])]),
    "a context with an even number": asked(contexts=[*GOOD, (4, TWELVE_LEAD.encode(), [IMPLICIT])]),
    "128 contexts of 20 transfer syntaxes": asked(
        contexts=[
            *GOOD,
            *(
                (n, f"1.2.840.10008.5.1.4.1.1.{n}".encode(), [b"1.2.3.%d" % t for t in range(20)])
                for n in range(5, 256, 2)
            ),
        ]
    ),
}


def negotiator(**settings: object) -> Negotiator:
    return Negotiator(DicomSettings(**settings), dict.fromkeys((VERIFICATION, TWELVE_LEAD), LITTLE_ENDIAN))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ODD)
def test_ps3_8_9_3_2_an_odd_request_is_answered(name: str) -> None:
    asked = negotiator().read(ODD[name])
    assert sorted(asked.contexts) == [1, 3]
    said = A_ASSOCIATE_AC()
    said.decode(asked.acceptance)
    numbers = [one.context_id for one in asked.request.proposed]
    results = {one.presentation_context_id: one.result for one in said.presentation_context}
    assert sorted(results) == sorted(numbers), "each context that was asked for has its result"
    assert {n for n, result in results.items() if result == 0} == {1, 3}
    assert asked.acceptance[10:42] == ODD[name][10:42], "the titles go back byte for byte (PS3.8 table 9-17)"


def test_a_title_that_is_padded_is_the_title_that_is_set() -> None:
    rules = negotiator(calling_ae_titles=("CART",))
    for name in ("a called title with NULs", "a calling title with NULs", "as it should be"):
        assert rules.refusal(rules.read(ODD[name]).request, "", is_allowed=True) is None
    for name in ("a blank calling title", "a calling title in latin-1", "a calling title with a backslash"):
        assert rules.refusal(rules.read(ODD[name]).request, "", is_allowed=True) is CALLING_UNKNOWN
    blank = rules.read(asked(called=b" " * 16)).request
    assert rules.refusal(blank, "", is_allowed=True) is CALLED_UNKNOWN


def test_a_request_is_read_once_and_its_answer_is_not_another_peers() -> None:
    rules = negotiator()
    first, second = rules.read(ODD["as it should be"]), rules.read(ODD["uids with NULs"])
    assert rules.read(ODD["as it should be"]) is first
    assert second is not first
    assert second.request.calling_ae == first.request.calling_ae == "CART"


@pytest.mark.parametrize("cut", [0, 6, 73, 80, 100, 150])
def test_a_request_that_is_cut_is_a_breach(cut: int) -> None:
    whole = ODD["as it should be"]
    try:
        read = negotiator().read(whole[:cut])
    except Breach:
        return
    assert len(read.request.proposed) < 2  # it ended between two items
