"""What is shown of an upload file by reading it back: not a sample was changed."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Form(StrEnum):
    """The forms of an upload that we write; the words are those of `cardio.upload_format`."""

    WFDB = "wfdb"
    EDF = "edf"


@dataclass(frozen=True, slots=True)
class Proof:
    """Every value of the file was compared with the payload's, and what its header says with the object.

    `samples_sha256` is of the samples as they stand in the object, whatever the form; `total_size` and `sha256` are
    the file's. `identical`: the `.dat` is the same bytes, so both its hashes are one; else each value was converted
    or moved, and decoded and compared again. `deviation`: the most that a value read from the file is off, in µV,
    apart from the reader's own rounding to doubles; above 0 only where EDF's header cannot spell the scale.
    """

    form: Form
    record: str  # of WFDB; EDF+ has no place for a name
    format: int  # bits of a stored sample, which name WFDB's format
    samples: int
    channels: int
    rate: Decimal
    samples_sha256: str
    dat_sha256: str  # of WFDB's signal file; EDF+ has none
    identical: bool
    total_size: int
    sha256: str
    deviation: Decimal = Decimal(0)
    instead: str = ""  # why it is not the form that the site prefers
