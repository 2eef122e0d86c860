"""Patients: identifiers with their authority, and what is known of a person."""

import unicodedata
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Identifier:
    """A patient identifier and who issued it (CX.4; IssuerOfPatientID). No authority: the site's own."""

    value: str
    authority: str = ""

    def agrees(self, other: "Identifier", *, site_authority: str = "") -> bool:
        """Same value, and authorities that do not differ.

        An absent authority is the site's own. Where the site has not named its own, an absent one agrees with any:
        a match asks for a name or a birth date besides.
        """
        if self.value != other.value or not self.value:
            return False
        mine, theirs = self.authority or site_authority, other.authority or site_authority
        return not mine or not theirs or mine.casefold() == theirs.casefold()


@dataclass(frozen=True, slots=True)
class Demographics:
    """What is known of a person; empty where it is not known. Dates are ISO, gender is the API's word."""

    last_name: str = ""
    first_name: str = ""
    gender: str = ""
    birth_date: str = ""

    def as_json(self) -> dict[str, str]:
        """The values by their names."""
        return {
            "last_name": self.last_name, "first_name": self.first_name, "gender": self.gender,
            "birth_date": self.birth_date,
        }  # fmt: skip

    def over(self, other: "Demographics") -> "Demographics":
        """Mine, with the other's values where I have none."""
        return Demographics(**{f.name: getattr(self, f.name) or getattr(other, f.name) for f in fields(Demographics)})


@dataclass(frozen=True, slots=True)
class PatientUpdate:
    """What a message says of a patient: a value is set, `None` clears it, an absent key keeps what is there.

    Keys of `said` are the field names of `Demographics`, keys of `visit` are number, class, location and status.
    HL7 v2.5.1 §2.5.3: `""` deletes, empty says nothing.
    """

    identifier: Identifier
    said: dict[str, str | None]
    visit: dict[str, str | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """Of two identifiers the first goes, and the second stands for both; each with its place in the message."""

    retired: Identifier
    survivor: Identifier
    retired_at: str = "MRG-1"
    survivor_at: str = "PID-3"


def folded(name: str) -> str:
    """A name for comparison: no case, no accents, no punctuation (`Strauß-Müller` is `STRAUSS MULLER`)."""
    if name.isascii() and name.replace(" ", "").isalnum():
        return " ".join(name.casefold().split())
    plain = unicodedata.normalize("NFKD", name).casefold()
    # Vowel signs (category M, combining class 0) are letters of Indic and Thai names, not accents.
    letters = (c for c in plain if not unicodedata.combining(c))
    kept = (c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in letters)
    return " ".join("".join(kept).split())
