"""HL7 messages, generated and mutated, on the whole way from bytes to answer: header, reader, rules, answer.

An input is one message. Nothing but a refusal of ours may come out of the reader, and nothing at all out of the rules;
every message has an answer that reads as HL7 and names the message; none takes long. One in eight goes on through the
books, as a dry run takes it in: entered, decided, a draft made, settled.
"""

import itertools
import time
from datetime import UTC, datetime
from typing import Any

from bridge.clock import SystemClock
from bridge.dispatch.understand import Understood, understand_message
from bridge.domain.verdict import AckCode, Condition, OrderReply, Problem, Verdict
from bridge.errors import BadInput
from bridge.formats.hl7 import answer, batch
from bridge.formats.hl7.limits import limits_of
from bridge.formats.hl7.reader import Header, Message, read, read_header
from bridge.mapping.rules import load_rules
from bridge.receive.intake import unsupported
from bridge.rehearsal.dry_run import DryRun
from bridge.settings import ListenerSettings, Settings
from tests.campaign.fuzz_findings import Findings, raised
from tests.campaign.fuzz_hl7_messages import Hl7Messages
from tests.campaign.results import Result, Say

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONGEST = 1.0
"""Seconds of processor time that one message may take; a usual one takes a thousandth."""
SITES: tuple[dict[str, Any], ...] = (
    {},
    {"hl7": {"order_response": "ack", "ack_mode": "auto", "return_address": "127.0.0.1:1", "fallback_charset": "utf8"}},
    {
        "hl7": {"processing_ids": ["P", "T", "D"], "max_segments": 40, "max_fields": 60, "max_repetitions": 20},
        "site": {"assigning_authority": "TEST", "time_zone": "America/New_York"},
        "dicom": {"worklist": {"enabled": True}, "calling_ae_titles": ["CART"]},
    },
)
"""Settings that lead other ways through the same code."""


class Site:
    """A bridge's rules for messages, with books in memory that are new now and then."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.settings = Settings.model_validate(document)
        self._rules = load_rules(None, name="defaults")
        self._dry = DryRun({"hl7": self._rules}, self.settings, SystemClock())
        self._left = 300

    def answered(self, raw: bytes) -> tuple[bytes, bytes]:
        """The answer to a message by its words alone, and MSH-10 as it came; no MSH-10 where it has no header."""
        try:
            header = read_header(raw)
        except BadInput as problem:
            return answer.build_without_header(str(problem), control_id="CB1", now=NOW), b""
        rules = self.settings.hl7.of_sender(f"{header.sending_application}|{header.sending_facility}")
        message: Message | Header = header
        try:
            message = read(raw, fallback_charset=rules.fallback_charset, most=limits_of(rules))
        except BadInput as problem:
            told = Problem(Condition(problem.code), str(problem), problem.where)
            verdict = Verdict(AckCode.AR, str(problem), (), (told,))
        else:
            verdict = unsupported(message, rules) or self._verdict(message, header, rules)
        return self._build(message, verdict, rules), header.raw_control_id

    def _verdict(self, message: Message, header: Header, rules: ListenerSettings) -> Verdict:
        sender = f"{header.sending_application}|{header.sending_facility}"
        understood = understand_message(message, sender, self._rules, self.settings, NOW, rules)
        return understood.verdict or Verdict(AckCode.AA, "", _replies(understood), understood.doubts)

    @staticmethod
    def _build(message: Message | Header, verdict: Verdict, rules: ListenerSettings) -> bytes:
        return answer.build(message, verdict, control_id="CB1", now=NOW, order_response=rules.order_response)

    def entered(self, raw: bytes) -> None:
        """The message, or the batch, as a dry run takes it in."""
        self._left -= 1
        if not self._left:
            self._dry, self._left = DryRun({"hl7": self._rules}, self.settings, SystemClock()), 300
        self._dry.file(raw)


def _replies(understood: Understood) -> tuple[OrderReply, ...]:
    return tuple(OrderReply("OK", (4711 + order.position,)) for order in understood.orders)


def fault(site: Site, raw: bytes, *, enter: bool) -> str:
    """What is wrong with how a message is taken; empty where nothing is."""
    began = time.process_time()
    try:
        for body in batch.split(raw).messages if batch.is_batch(raw) else (raw,):
            told, control_id = site.answered(body)
            if wrong := _amiss(told, control_id):
                return wrong
        if enter:
            site.entered(raw)
    except Exception as problem:  # noqa: BLE001  whatever it raises is the finding
        return raised(problem)
    return "" if time.process_time() - began < LONGEST else "it took too long"


def _amiss(told: bytes, control_id: bytes) -> str:
    """What is wrong with an answer."""
    if b"\x0b" in told or b"\x1c" in told:
        return "an answer that ends its frame"
    msh, _, rest = told.partition(b"\r")
    separator = told[3:4]
    if msh[:3] != b"MSH" or rest[:4] != b"MSA" + separator or not told.endswith(b"\r"):
        return "no answer"
    said = rest[7:].partition(b"\r")[0] + separator
    echoed = control_id.replace(b"\x0b", b" ").replace(b"\x1c", b" ")
    return "" if said.startswith(echoed + separator) else "an answer to another message"


def run(seed: int, minutes: float, say: Say) -> Result:
    """Messages for so long, at three sites in turn."""
    found = Findings("reader", seed, say)
    messages = Hl7Messages(found.dice)
    sites = itertools.cycle([Site(document) for document in SITES])

    def batch_of_them() -> None:
        for _ in range(200):
            raw = messages.next()
            found.add("inputs")
            enter = found.counts["inputs"] % 8 == 0
            found.add("entered", int(enter))
            if wrong := fault(next(sites), raw, enter=enter):
                found.note(wrong, raw)

    return found.go_on(minutes, batch_of_them)
