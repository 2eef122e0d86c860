"""Published messages, where the folder is at hand (BRIDGE_TEST_CORPUS): each is read, answered and reported on."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.domain.verdict import AckCode, OrderReply, Verdict
from bridge.errors import BadInput
from bridge.formats.hl7 import batch
from bridge.formats.hl7.answer import build
from bridge.formats.hl7.lint import check_answer, lint
from bridge.formats.hl7.reader import read

FOLDER = Path(os.environ.get("BRIDGE_TEST_CORPUS", "corpus")) / "hl7"
FILES = sorted(FOLDER.glob("*.hl7"))

# What a published message leaves out cannot be echoed; what it says wrongly is echoed all the same.
THE_SENDERS_OWN = (
    "ORC[1]-7",
    "OBR[1]-27",
    "MSH[1]-11",
    "MSH[1]-12",
    "MSA[1]-2",
    "MSH-2",
    "hl7apy's parser refuses",
    "one of ORR_O02",
)


@pytest.mark.skipif(not FILES, reason="the published messages are not part of the project")
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_published_messages_are_read_answered_and_reported_on(file):
    raw = file.read_bytes()
    lint(raw)
    for body in batch.split(raw).messages if batch.is_batch(raw) else [raw]:
        if not body.lstrip(b"\xef\xbb\xbf\r\n").startswith(b"MSH"):  # segments that stand outside any message
            with pytest.raises(BadInput):
                read(body)
            continue
        message = read(body)
        for address in ("PID-3.1", "PID-5.1", "OBX[3.1=8302-2]-5", "MSH-7"):
            for found in message.find(address):
                assert message.find(found.where) == [found]
        replies = tuple(OrderReply("OK", (4711,)) for _ in message.orders())
        made = build(message, Verdict(AckCode.AA, "", replies), control_id="X", now=datetime(2026, 4, 19, tzinfo=UTC))
        assert [f for f in check_answer(made) if not f.startswith(THE_SENDERS_OWN)] == []
