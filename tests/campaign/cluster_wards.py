"""Wards of a hospital whose bridge has several doors: a connection goes to any of them, as behind a balancer."""

import random
from collections.abc import Sequence

from tests.campaign.letters import Letter, Ward
from tests.campaign.stage import Address
from tests.campaign.wards import Sender

MOVES = 0.1
"""The share of letters before which a ward connects anew, and may come to another door."""


class Roaming(Sender):
    """As `Sender`, at one door and then at another; a resend goes to any of them. `doors`: HL7 and DICOM of each."""

    def __init__(
        self, ward: Ward, doors: Sequence[tuple[Address, Address]], *, rate: float = 0.0, patience: float = 10.0
    ) -> None:
        super().__init__(ward, *doors[0], rate=rate, patience=patience)
        self._doors = doors
        self._way = random.Random(f"{ward.seed}/{ward.name}/doors")

    def _once(self, letter: Letter) -> bool:
        if self._sock is None or self._way.random() < MOVES:
            self._hang_up()
            self._hl7, self._dicom = self._way.choice(self._doors)
        return super()._once(letter)
