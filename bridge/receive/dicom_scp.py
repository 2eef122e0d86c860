"""C-ECHO and C-STORE by pynetdicom's own server, with the object spooled to disk as it comes.

The stock server must not face a hostile network (dicom_ecg.md §2): what stands here are its own limits. Only this
file knows pynetdicom, so that another acceptor can take its place behind the same `DicomIntake`.
"""

import logging
import socket
from typing import Any

import structlog
from pynetdicom import AE, _config, evt

from bridge.errors import CannotListen
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.receive.dicom_intake import Announced, DicomIntake, Status
from bridge.settings import DicomSettings, host_port

log = structlog.get_logger()

_VERIFICATION = "1.2.840.10008.1.1"
_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT_LITTLE, _EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


class DicomScp:
    """The storage SCP. One thread an association, by pynetdicom."""

    def __init__(self, intake: DicomIntake, settings: DicomSettings) -> None:
        self._intake = intake
        self._settings = settings
        self._server: Any = None

    def start(self) -> str:
        """Listen. Returns the address taken; raises CannotListen that names the setting."""
        _config.LOG_HANDLER_LEVEL = "none"  # the standard handler logs data sets
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        host, port = host_port(self._settings.listen)
        entity = AE(ae_title=self._settings.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._settings.calling_ae_titles)
        entity.maximum_associations = self._settings.max_associations
        entity.maximum_pdu_size = self._settings.max_pdu
        entity.network_timeout = self._settings.idle_timeout
        entity.add_supported_context(_VERIFICATION, [_IMPLICIT_LITTLE, _EXPLICIT_LITTLE])
        for uid in ECG_SOP_CLASSES:
            entity.add_supported_context(uid, [_EXPLICIT_LITTLE, _IMPLICIT_LITTLE])
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _: 0x0000),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_CONN_OPEN, _no_delay),
        ]
        try:
            self._server = entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as cause:
            raise CannotListen(
                f"dicom.listen: cannot listen on {self._settings.listen}: {cause.strerror or cause}. "
                "Another program may hold the port; choose another, or 0 for any free one."
            ) from cause
        name = self._server.socket.getsockname()
        return f"{name[0]}:{name[1]}"

    def stop(self) -> None:
        """Take no more associations; those under way are ended."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _requested(self, event: Any) -> None:
        """No room: refuse before a cart sends what cannot be kept (transient, local limit: A-ASSOCIATE-RJ 2/3/2)."""
        if not self._intake.has_room():
            log.warning("association.refused", reason="no_room")
            event.assoc.acse.send_reject(2, 3, 2)
            event.assoc.kill()

    def _store(self, event: Any) -> int:
        request = event.request
        try:
            reception = self._intake.begin(
                Announced(
                    str(request.AffectedSOPClassUID),
                    str(request.AffectedSOPInstanceUID),
                    str(event.context.transfer_syntax),
                    str(event.assoc.requestor.ae_title).strip(),
                    self._settings.ae_title,
                    str(event.assoc.requestor.address),
                )
            )
            reception.write(request.DataSet.getbuffer())
            answer = reception.finish()
        except Exception as problem:  # noqa: BLE001  edge of the association: pynetdicom would answer 0xC211
            log.error("object.not_kept", error=type(problem).__name__)
            return Status.OUT_OF_RESOURCES
        if answer is None:  # it is not known whether it was kept: nothing may be said (A3)
            event.assoc.abort()
            return Status.OUT_OF_RESOURCES
        return int(answer[0])


def _no_delay(event: Any) -> None:
    """Answers are small and waited for."""
    connection = getattr(event.assoc.dul, "socket", None)
    raw = getattr(connection, "socket", None)
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
