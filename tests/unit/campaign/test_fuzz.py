"""The fuzz campaigns: the same seed makes the same inputs, a short run is green, and what is broken is seen."""

import itertools
import random
from unittest import mock

import pytest

from bridge.errors import BadInput
from bridge.formats.dicom.reader import read_object
from bridge.formats.hl7.mllp import Frame, FrameDecoder
from tests.campaign import fuzz_framing, fuzz_objects, fuzz_pdus, fuzz_reader
from tests.campaign.fuzz_findings import Findings, raised
from tests.campaign.fuzz_framing import fault, streams
from tests.campaign.fuzz_hl7_messages import SAMPLES, Hl7Messages
from tests.campaign.fuzz_objects import Reading, damaged
from tests.campaign.fuzz_pdus import Coders, Scripts
from tests.campaign.fuzz_reader import SITES, Site
from tests.unit.dicom.mutations import every_kind

STREAM = b"x\x0bA\x1c\r\x0bMSH|1\r\x0bMSH|2\r\x1c\r"


def test_the_same_seed_makes_the_same_inputs(tmp_path):
    def made(seed):
        dice = random.Random(seed)
        messages, objects, scripts = Hl7Messages(dice), every_kind()[:3], Scripts(dice, tmp_path)
        return (
            list(itertools.islice(streams(dice), 300)),
            [messages.next() for _ in range(300)],
            [damaged(dice.choice(objects), dice) for _ in range(50)],
            [scripts.damaged() for _ in range(50)],
        )

    assert made(1) == made(1)
    assert made(1) != made(2)


# --- framing ----------------------------------------------------------------------------------------------------


def test_framing_streams_reach_every_event():
    found = {
        type(event).__name__
        for stream in itertools.islice(streams(random.Random(3)), 3000)
        for event in fuzz_framing.expected(stream)
    }
    assert found == {"Frame", "Garbage", "TooLong"}


def test_framing_is_green_for_the_decoder_as_it_is():
    assert [fault(stream, [len(stream) // 2]) for stream in itertools.islice(streams(random.Random(1)), 3000)] == [
        ""
    ] * 3000
    assert fault(STREAM, [1, 2, 3]) == ""


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda self, data: [Frame(e.body[:-1]) for e in FEED(self, data)], "not the frames of these bytes"),
        (lambda self, data: FEED(self, data) if len(data) > 3 else [], "other frames in other cuts"),
        (lambda self, data: 1 // 0, "raised ZeroDivisionError"),
    ],
    ids=["a byte less", "dropped pieces", "raises"],
)
def test_framing_sees_a_decoder_that(spoiled, said):
    with mock.patch.object(FrameDecoder, "feed", spoiled):
        assert fault(STREAM, [1, 2, 3]).startswith(said)


FEED = FrameDecoder.feed


# --- the reader with its mapping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("document", SITES, ids=["plain", "as acknowledgement", "strict limits, worklist"])
def test_reader_is_green_for_some_hundred_messages(document):
    site, messages = Site(document), Hl7Messages(random.Random(5))
    for _ in range(250):
        raw = messages.next()
        assert fuzz_reader.fault(site, raw, enter=False) == "", raw


def test_reader_messages_are_refused_read_and_passed_over():
    """The mutations leave enough that is read: a fuzz that is refused at the door tests the door alone."""
    site, messages = Site({}), Hl7Messages(random.Random(6))
    codes = [site.answered(messages.next())[0].partition(b"\rMSA")[2][1:3] for _ in range(600)]
    assert min(codes.count(code) for code in (b"AA", b"AE", b"AR")) > 30


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (b"MSH|^~\\&|\rMSA|AA|1\r", ""),
        (b"MSH|^~\\&|\rMSA|AA|2\r", "an answer to another message"),
        (b"MSH|^~\\&|\rMSA|AA|1", "no answer"),
        (b"MSH|^~\\&|\rERR|\r", "no answer"),
        (b"MSH|^~\\&|\rMSA|AA|1|\x1c\r", "an answer that ends its frame"),
    ],
)
def test_reader_sees_an_answer_that_is_none(told, said):
    assert fuzz_reader._amiss(told, b"1") == said


def test_reader_sees_what_raises():
    site = Site({})
    with mock.patch.object(fuzz_reader, "understand_message", side_effect=KeyError):
        raw = (SAMPLES / "02_orm_o01_order.hl7").read_bytes()
        assert fuzz_reader.fault(site, raw, enter=False).startswith("raised KeyError at ")


# --- objects and PDUs ---------------------------------------------------------------------------------------------


def test_objects_of_which_enough_are_read_are_green(tmp_path):
    found, dice, kinds = Findings("objects", 1, lambda _: None), random.Random(4), every_kind()
    reading = Reading(tmp_path / "object.dcm")
    for _ in range(150):
        raw = damaged(dice.choice(kinds), dice)
        assert reading.fault(raw, found) == "", raw
    assert found.counts["read"] > 20


def test_f5_objects_sees_an_error_of_the_disk(tmp_path):
    with mock.patch.object(fuzz_objects, "read_object", side_effect=OSError):
        said = Reading(tmp_path / "object.dcm").fault(every_kind()[0], Findings("objects", 1, lambda _: None))
    assert said.startswith("raised OSError at ")


def test_f5_objects_sees_a_check_that_is_stricter_than_the_reader(tmp_path):
    refused = BadInput("no", where="WaveformData")
    with mock.patch.object(fuzz_objects, "check_structure", side_effect=refused):
        said = Reading(tmp_path / "object.dcm").fault(every_kind()[0], Findings("objects", 1, lambda _: None))
    assert said == "refused before the answer, and read after it"
    assert read_object(tmp_path / "object.dcm").recording.groups


def test_pdus_coders_refuse_by_breach_alone(tmp_path):
    coders, scripts = Coders(), Scripts(random.Random(2), tmp_path)
    for _ in range(100):
        for pdu in scripts.damaged():
            assert coders.fault(scripts.bent(pdu)) == ""
    with mock.patch.object(fuzz_pdus, "read_command", side_effect=IndexError):
        pdus = [pdu for _ in range(10) for pdu in scripts.honest()]
        assert any(coders.fault(pdu).startswith("raised IndexError") for pdu in pdus)


def test_findings_are_counted_all_and_said_a_few_times():
    said: list[str] = []
    found = Findings("framing", 7, said.append)
    for _ in range(20):
        found.note("other frames in other cuts", b"")
    found.note(raised(KeyError("a patient's name")), b"")
    assert (found.result().counts["broken"], found.result().counts["uncaught"], len(said)) == (20, 1, 5)
    assert found.result().red() == {"uncaught": 1, "broken": 20}
    assert "name" not in raised(KeyError("a patient's name"))
