"""Objects as they were read, for the few that are in hand: who understands a recording is not the one that sends it.

A payload is named by its content's hash, so what was read of it stays right. Samples are not kept: an upload reads
them, and proves them, each time.
"""

import asyncio
from collections import OrderedDict

from bridge.formats.dicom.reader import EcgObject, read_object
from bridge.store.payloads import Payloads

MOST = 32
"""Objects; one holds its header's elements, about 0.2 MB for 24 channels."""


class Objects:
    """For the loop's own thread."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._lately: OrderedDict[str, EcgObject] = OrderedDict()

    async def read(self, payload: str) -> EcgObject:
        """The object of a payload's name. Raises BadInput, and OSError or StoreError where it cannot be had."""
        found = self._lately.get(payload)
        if found is None:
            found = await asyncio.to_thread(self._read, payload)
            self._lately[payload] = found
            if len(self._lately) > MOST:
                self._lately.popitem(last=False)
        return found

    def _read(self, payload: str) -> EcgObject:
        with self._payloads.at_hand(payload) as path:
            return read_object(path)
