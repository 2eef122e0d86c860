"""What a message or an object says, each value with the place where it stood.

The formats implement `Source`, the mapping reads it: neither knows the other.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """One value as sent: decoded, unescaped, trimmed.

    `where` is an exact address that `Source.find` understands again: `PID-3[2].1`, `OBX[4]-5`,
    `RequestAttributesSequence[1].AccessionNumber`. Numbers count from 1.
    `null` is HL7's `""`: the sender asks to delete the value (HL7 v2.5.1 §2.5.3); `value` is empty then.
    """

    value: str
    where: str
    null: bool = False


class Source(Protocol):
    """A message, one order of it, or an object's header, seen as addresses and values.

    HL7 addresses: `PID-8`, `PID-3.1`, `PID-3[2].4.1` (second repeat), `PID-3[5=MR].1` (repeats whose component 5
    is MR; `4.1=` and `4.2=` look at a subcomponent), `OBX[3.1=8302-2]-5` (segments whose field 3.1 is that code),
    `OBX[2]-6` (second OBX). Without a component the whole field is given, delimiters kept.
    DICOM addresses are keywords: `PatientID`, `RequestAttributesSequence.AccessionNumber` (all items),
    `RequestAttributesSequence[1].AccessionNumber`.
    Addresses that begin with `@` are facts of the connection: `@peer`, `@listener`, `@sender` (MSH-3|MSH-4),
    `@calling_ae_title`, `@called_ae_title`.
    """

    def find(self, address: str) -> list[Found]:
        """Every value at that address, in order of appearance; an empty value is not a value."""


@dataclass(frozen=True, slots=True)
class OnConnection:
    """A source with the facts of the connection that brought it: `facts` are keyed by their `@` address."""

    source: Source
    facts: dict[str, str]

    def find(self, address: str) -> list[Found]:
        if not address.startswith("@"):
            return self.source.find(address)
        value = self.facts.get(address, "")
        return [Found(value, address)] if value else []
