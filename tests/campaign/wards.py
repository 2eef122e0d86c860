"""Wards that send their letters, each again until it is answered, as hospital systems and carts do."""

import random
import socket
import threading
import time
from collections.abc import Iterable

from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from tests.campaign.judge import Sent, Told
from tests.campaign.letters import Letter, Ward
from tests.campaign.stage import Address
from tests.protocol.dicom_peer import EXPLICIT, RELEASE_RQ, TWELVE_LEAD, Peer, p_data, request, store_command

START, END = b"\x0b", b"\x1c\r"
REPLAYED = 0.05
"""The share of messages that come again although they were answered."""
PIECE = 512
"""Bytes of a data set in one PDU: small, so that there are places to be cut at."""


class Sender(threading.Thread):
    """One ward at work: a letter is sent again until its last word is known. `rate` 0: as fast as it is answered."""

    def __init__(
        self, ward: Ward, hl7: Address, dicom: Address, *, rate: float = 0.0, most: int = 0, patience: float = 10.0
    ) -> None:
        super().__init__(daemon=True, name=ward.name)
        self._ward, self._hl7, self._dicom = ward, hl7, dicom
        self._pause = 1 / rate if rate else 0.0
        self._most, self._patience = most, patience
        self._sock: socket.socket | None = None
        self.over = threading.Event()
        self.sent: list[Sent] = []
        self.answered = 0
        self.resent = 0
        self.replayed = 0
        self._dice = random.Random(f"{ward.seed}/{ward.name}/replay")

    def run(self) -> None:
        due = time.monotonic()
        while not self.over.is_set() and not (self._most and len(self.sent) >= self._most):
            letter = self._ward.next()
            self.sent.append(letter.sent)
            while not self._once(letter):
                self.resent += 1
                if self.over.wait(0.02):
                    return
            self.answered += 1
            self._replay(letter)
            due += self._pause
            self.over.wait(max(due - time.monotonic(), 0.0))
        self._hang_up()

    def _replay(self, letter: Letter) -> None:
        """Now and then the answer got lost behind the sender's back: the same bytes go out once more (F7, F30)."""
        if self._dice.random() < REPLAYED:
            told = letter.sent.told
            self._once(letter)
            letter.sent.told = told
            self.replayed += 1

    def _once(self, letter: Letter) -> bool:
        """Whether the last word is known."""
        try:
            told = self._message(letter) if letter.sent.kind == "hl7" else self._object(letter)
        except (OSError, ValueError, AssertionError):  # AssertionError: the peer's word for an answer that did not come
            self._hang_up()
            return False
        letter.sent.told = told
        return told is not Told.NOTHING

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _message(self, letter: Letter) -> Told:
        if self._sock is None:
            self._sock = socket.create_connection(self._hl7, timeout=self._patience)
        self._sock.sendall(START + letter.body + END)
        answer = b""
        while not answer.endswith(END):
            part = self._sock.recv(65536)
            if not part:
                raise ConnectionError("closed without an answer")
            answer += part
        told = answer.partition(b"\rMSA|")[2].split(b"\r")[0].split(b"|")
        if told[1].decode() != letter.sent.name:
            raise ConnectionError("the answer to another message")
        self._ward.heard(letter, answer)
        return {b"AA": Told.KEPT, b"AE": Told.REFUSED}.get(told[0], Told.NOTHING)

    def _object(self, letter: Letter) -> Told:
        with Peer.to(self._dicom, timeout=self._patience) as cart:
            cart.send(request(contexts={TWELVE_LEAD: (EXPLICIT,)}))
            if cart.kind() != "ASSOCIATE-AC":
                raise ConnectionError("no association")
            cart.send(p_data(store_command(letter.sent.name), command=True))
            body = letter.body
            cut = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
            for number, part in enumerate(cut, 1):
                cart.send(p_data(part, last=number == len(cut)))
            status = _status(cart.pdu())
            cart.send(RELEASE_RQ)
            cart.pdu()
        return Told.KEPT if status == 0 else Told.NOTHING if status >> 8 == 0xA7 else Told.REFUSED


def _status(pdu: bytes) -> int:
    """The status of a C-STORE-RSP that came in one PDU. Raises ConnectionError where it is none."""
    if pdu[:1] != b"\x04" or len(pdu) < 6 + int.from_bytes(pdu[2:6]):
        raise ConnectionError("no answer, or half of one")
    values = P_DATA()
    values.presentation_data_value_list = [[pdu[10], pdu[11:]]]
    message = DIMSEMessage()
    if not message.decode_msg(values):
        raise ConnectionError("half an answer")
    return int(message.message_to_primitive().Status)


def sent_by(senders: Iterable[Sender]) -> list[Sent]:
    """The senders' journal."""
    return [one for sender in senders for one in sender.sent]


def answered(senders: Iterable[Sender]) -> int:
    """Letters whose last word is known."""
    return sum(sender.answered for sender in senders)


def await_answer(senders: list[Sender], seconds: float = 30) -> bool:
    """Until somebody is answered; false where nobody is for so long, or all have ended."""
    before, patience = answered(senders), time.monotonic() + seconds
    while answered(senders) == before:
        if time.monotonic() > patience or not any(sender.is_alive() for sender in senders):
            return False
        time.sleep(0.005)
    return True


def end(senders: Iterable[Sender]) -> None:
    """Each ends when it has its answer, or at once where it waits to send again."""
    for sender in senders:
        sender.over.set()
    for sender in senders:
        sender.join(60)
