"""The order book as a Modality Worklist (C-FIND, PS3.4 annex K): the cart sends back what the order said.

What is told is an order that stands, is due, and has no recording's task yet; where its patient is not certain it is
not told at all.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import structlog

from bridge.clock import Clock
from bridge.errors import BadInput
from bridge.formats.dicom.matching import UNABLE_TO_PROCESS
from bridge.formats.dicom.worklist import Known, Query, read_query
from bridge.mapping.times import offset_of
from bridge.receive.dicom.scheduled import Telling, known_of, start_of
from bridge.receive.dicom.session import Session
from bridge.settings import Settings
from bridge.store import worklist
from bridge.store.port import Connection, Store
from bridge.store.schema import millis

log = structlog.get_logger()

OUT_OF_RESOURCES = 0xA700  # PS3.4 table K.4.1-1

_NUMBERS = (
    "AccessionNumber", "RequestedProcedureID", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
)  # fmt: skip


class Worklist:
    """Answers queries from any number of associations at once."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, *, site_key: bytes) -> None:
        self._store = store
        self._settings = settings.dicom.worklist
        self._zone = ZoneInfo(settings.site.time_zone)
        self._authority = settings.site.assigning_authority
        self._clock = clock
        self._site_key = site_key

    def find(self, identifier: bytes, transfer_syntax_uid: str, session: Session) -> Iterator[tuple[int, bytes]]:
        """The matches by their start, each with its pending status and its identifier in that transfer syntax.

        Raises BadInput, whose code is the status: at once where the query cannot be understood, and behind the last
        match where more match than are told (A700: a cart must not take a part for the whole). Raises StoreError.
        """
        query = read_query(identifier, transfer_syntax_uid)
        if query.offset and offset_of(query.offset) is None:
            raise BadInput("not an offset from UTC", where="TimezoneOffsetFromUTC", code=UNABLE_TO_PROCESS)
        told, beyond, withheld = self._store.read_from_thread(lambda conn: self._matching(conn, query, session))
        log.info("worklist.told", address=session.peer, number=len(told), beyond=beyond, withheld=withheld)
        return self._answers(query, told, beyond=beyond)

    def _answers(self, query: Query, told: list[Known], *, beyond: bool) -> Iterator[tuple[int, bytes]]:
        for known in told:
            yield query.status, query.answer(known)
        if beyond:
            raise BadInput(f"more match than {len(told)}: ask more closely", code=OUT_OF_RESOURCES)

    def _matching(self, conn: Connection, query: Query, session: Session) -> tuple[list[Known], bool, int]:
        """What matches, whether there is more of it, and how many orders could not be told."""
        telling = Telling(
            self._settings,
            self._station(query, session),
            _zone(query.offset) or self._zone,
            self._clock.now(),
            self._site_key,
            self._authority,
        )
        told: list[tuple[datetime, int, Known]] = []
        beyond, withheld = False, 0
        for waiting in self._candidates(conn, query):
            known = known_of(waiting, telling)
            if known is None:
                withheld += 1
            elif query.matches(known):
                if len(told) == self._settings.most_answers:
                    beyond = True
                    break
                told.append((start_of(waiting, telling), waiting.order.id, known))
        told.sort(key=lambda one: one[:2])
        return [known for _, _, known in told], beyond, withheld

    def _candidates(self, conn: Connection, query: Query) -> Iterator[worklist.Waiting]:
        """The orders that may match, newest first, by the closest key that has an index."""
        now = self._clock.now()
        window = worklist.Window(
            millis(now - timedelta(days=self._settings.days_back)),
            millis(now + timedelta(days=self._settings.days_ahead)),
        )
        patient = query.exact("PatientID")
        if patient:
            return worklist.of_patient(conn, window, patient, site_authority=self._authority)
        number = next(filter(None, map(query.exact, _NUMBERS)), "")
        if number:
            return worklist.with_number(conn, window, number, site_authority=self._authority)
        return worklist.newest(conn, window, site_authority=self._authority)

    def _station(self, query: Query, session: Session) -> str:
        """Where an order that names no station is done: where the site says, else at the cart that asks for it."""
        asked = query.asked_step("ScheduledStationAETitle")
        named = asked[0] if len(asked) == 1 and not set("*?") & set(asked[0]) else session.calling_ae
        return self._settings.station_ae_title or named


def _zone(offset: str) -> tzinfo | None:
    """The zone that a query's times are in, where it says one."""
    known = offset_of(offset) if offset else None
    return timezone(known) if known is not None else None
