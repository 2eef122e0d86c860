"""HL7 messages as no sender should write them: real and invented ones, damaged where the grammar hurts.

A mutation works on segments, fields, repetitions, components, escapes, delimiters, line ends and character sets, and
now and then on bare bytes. Everything is drawn from one source of chance, so that a seed makes the same messages.
"""

import random
from collections.abc import Callable
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "sample_messages"
SETS = (
    "", "UNICODE UTF-8", "8859/1", "8859/15", "ASCII", "ISO IR6~ISO IR87", "ISO IR14", "ISO IR87", "GB 18030-2000",
    "KS X 1001", "BIG-5", "CNS 11643-1992", "UNICODE UTF-16", "~8859/5", "8859/1~8859/7~UNICODE", "NOSUCHSET", '""',
)  # fmt: skip
CODECS = ("latin-1", "utf-8", "cp1252", "utf-16", "utf-32", "utf-8-sig", "cp932", "gb18030", "big5", "iso2022_jp")
DATES = (
    "19700131", "1970", "197001", "19700230", "00000000", "99991231", "20260301120000+0100", "20260301120000.1234-9999",
    "202603011260", "20260329023000", "2026-03-01", "20260301T12", "1970013", "٢٠٢٦٠٣٠١", "10000101000000+1400", "0",
)  # fmt: skip
VALUES = (
    "", '""', " ", "0", "-1", "1E400", "NaN", "Infinity", "00012", "18446744073709551616", "x" * 300, "\t", "\x00", "é",
    "山田^花子", "ß" * 70, "a\u0301", "\u202e", "\ud7ff", "A&B", "A^B^C^D^E", "A~B~C", "~~~~", "^^^^", "&&&", "\\",
    "\\E\\", "\\F\\", "\\X0D\\", "\\X1C0B\\", "\\X0\\", "\\XZZ\\", "\\C2842\\", "\\M24212A\\", "\\.br\\", "\\H\\x\\N\\",
    "\\T", "\\\\\\", "\\Zabc\\", "MSH", "PID|1", "4711^^^TEST^MR", "4711^^^&1.2.3&ISO^PI~0^^^X&&^MR", "NW", "XO", "CA",
    "DC", "RL", "HD", "SN", "NA", "SC", "OC", "UA", "PA", "CH", "RP", "L", "F", "M", "FEMALE", "U", "A", "ORM^O01",
    "ORM", "OMG^O19^OMG_O19", "OMI^O23", "ADT^A08", "ADT^A40^ADT_A39", "ADT^A47", "ADT^A45", "ADT^A24", "ADT^A99",
    "ACK^O01", "MDM^T02", "P", "D", "T", "P^A", "2.1", "2.3.1", "2.5.1", "2.9", "9", "2.5.1^DEU", "AL", "NE", "SU",
    "180^cm", "0.00018^km", "1e3^kg", "175^[in_i]", "12^^", "5^ft", *DATES,
)  # fmt: skip
SEGMENTS = (
    "EVN|A08|20260301", "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M", "PID|2||4712^^^TEST^MR||Muster^Eva",
    "MRG|4711^^^TEST^MR", "MRG|", "PV1|1|I|EKG^1^2", "NK1|1|Muster^Erika", "ORC|NW|PL-1^HIS", "ORC|XO|PL-1^HIS|9^C",
    "ORC|CA|PL-2^HIS", "ORC|PA|P^HIS\rORC|CH|PL-3^HIS||P^HIS", "ORC", "OBR|1|PL-1^HIS||93000^ECG^CPT", "OBR", "TQ1|1",
    "IPC|ACC1|RP1|1.2.3|SPS1", "OBX|1|NM|8302-2^height^LN||180|cm", "OBX|2|NM|29463-7||81.5|kg", "OBX|1|ST|X||y",
    "NTE|1||a note", "DG1|1||R07.4^x^I10", "IN1|1", "AL1|1", "ZZZ|a|b", "Z", "msh|^~\\&|", "MSH|^~\\&|A", "DSC|1",
    "ADD|x", "BHS|^~\\&|HIS", "BTS|1", "FHS|^~\\&|HIS", "FTS|1", "MSA|AA|1", "ERR|", "SFT|1", "UAC|JWT",
)  # fmt: skip
ENDS = ("\r", "\r", "\r", "\r", "\n", "\r\n", "\r\r", "\n\n", "", "\x0b", "\x1c")

_BYTES = (b"\x1b$B", b"\x1b(B", b"\x1b-A", b"\x0e", b"\xff\xfe", b"\xc3", b"\x80", b"\x00")

Lines = list[str]


class Hl7Messages:
    """Messages without end. A message is kept apart in text of one byte a character until its last step."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._bases = [path.read_bytes() for path in sorted(SAMPLES.glob("*.hl7"))]
        self._ways: tuple[Callable[[Lines], None], ...] = (
            self._field, self._field, self._field, self._field, self._inside, self._inside, self._segment,
            self._segment, self._drop, self._double, self._swap, self._splice, self._many, self._delimiters, self._cut,
        )  # fmt: skip

    def next(self) -> bytes:
        """One more."""
        dice = self._dice
        base = dice.choice(self._bases) if dice.random() < 0.8 else self._invented()
        lines = base.decode("latin-1").replace("\r\n", "\r").replace("\n", "\r").rstrip("\r").split("\r")
        for _ in range(dice.choice((1, 1, 2, 3, 6))):
            dice.choice(self._ways)(lines)
        end = dice.choice(ENDS) if dice.random() < 0.2 else "\r"
        return self._damaged(self._encoded(end.join(lines) + dice.choice(("\r", "\r", "", "\n", "\r\r"))))

    def _invented(self) -> bytes:
        """A message out of the stock of segments alone."""
        kind, sets = self._dice.choice(("ORM^O01", "OMG^O19", "OMI^O23", "ADT^A08", "ADT^A40")), self._dice.choice(SETS)
        head = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000||{kind}|C1|P|2.5.1|||||{sets}"
        return "\r".join([head, *self._dice.choices(SEGMENTS, k=1 + self._dice.randrange(8))]).encode("latin-1")

    def _at(self, lines: Lines) -> int:
        return self._dice.randrange(len(lines)) if lines else 0

    def _value(self) -> str:
        made = self._dice.choice(VALUES)
        return made if made.isascii() else made.encode(errors="replace").decode("latin-1")

    # --- ways to damage a message -----------------------------------------------------------------------------

    def _field(self, lines: Lines) -> None:
        """Another value in a field, one that stands there, or one behind the last; MSH-2 and MSH-18 among them."""
        at = self._at(lines)
        separator = lines[0][3:4] or "|"
        fields = lines[at].split(separator)
        place = self._dice.randrange(len(fields) + 2)
        if at == 0 and self._dice.random() < 0.3:
            place, value = self._dice.choice(((17, self._dice.choice(SETS)), (8, self._value()), (1, self._value())))
        else:
            value = self._value()
        fields += [""] * (place + 1 - len(fields))
        fields[place] = value
        lines[at] = separator.join(fields)

    def _inside(self, lines: Lines) -> None:
        """A piece in the midst of a field: a delimiter, a component, an escape."""
        at = self._at(lines)
        line = lines[at]
        here = self._dice.randrange(len(line) + 1)
        lines[at] = line[:here] + self._dice.choice(("^", "~", "&", "|", "\\", self._value())) + line[here:]

    def _segment(self, lines: Lines) -> None:
        """A segment more."""
        lines.insert(self._dice.randrange(len(lines) + 1), self._dice.choice(SEGMENTS))

    def _drop(self, lines: Lines) -> None:
        if len(lines) > 1 or self._dice.random() < 0.05:
            del lines[self._at(lines)]
        if not lines:
            lines.append("")

    def _double(self, lines: Lines) -> None:
        at = self._at(lines)
        lines[at:at] = [lines[at]] * self._dice.choice((1, 1, 2, 30))

    def _swap(self, lines: Lines) -> None:
        one, other = self._at(lines), self._at(lines)
        lines[one], lines[other] = lines[other], lines[one]

    def _splice(self, lines: Lines) -> None:
        """The rest of another message behind the beginning of this one."""
        other = self._dice.choice(self._bases).decode("latin-1").replace("\n", "\r").split("\r")
        lines[self._at(lines) + 1 :] = other[self._dice.randrange(len(other)) :]

    def _many(self, lines: Lines) -> None:
        """Many fields, repetitions or components: about as many as the limits allow, and beyond."""
        at = self._at(lines)
        lines[at] += self._dice.choice("|~^&\\") * self._dice.choice((10, 100, 499, 501, 3000))

    def _delimiters(self, lines: Lines) -> None:
        """Other delimiters throughout, or in MSH alone; some that no message may have."""
        given = self._dice.choice(("|^~\\&", "$%*!?", "|^~", "|^~\\&#", "|||||", "^|~\\&", "#^~ &", "|AB\\C", "¦^~\\&"))
        given = given.encode().decode("latin-1")[:6]
        table = {ord(a): b for a, b in zip("|^~\\&", given, strict=False)}
        upto = len(lines) if self._dice.random() < 0.7 else 1
        lines[:upto] = [line.translate(table) for line in lines[:upto]]

    def _cut(self, lines: Lines) -> None:
        """The message ends early, or begins late."""
        at = self._at(lines)
        here = self._dice.randrange(len(lines[at]) + 1)
        if self._dice.random() < 0.7:
            lines[at:] = [lines[at][:here]]
        else:
            lines[: at + 1] = [lines[at][here:]]

    # --- its bytes ----------------------------------------------------------------------------------------------

    def _encoded(self, text: str) -> bytes:
        """Mostly as it came; else written in a set that it may or may not declare."""
        raw = text.encode("latin-1", "replace")
        if self._dice.random() < 0.85:
            return raw
        return raw.decode("utf-8", "replace").encode(self._dice.choice(CODECS), "replace")

    def _damaged(self, raw: bytes) -> bytes:
        dice = self._dice
        if dice.random() < 0.8 or not raw:
            return raw
        bad = bytearray(raw)
        for _ in range(dice.choice((1, 1, 3, 10))):
            at = dice.randrange(len(bad) + 1)
            if dice.random() < 0.5:
                bad[at : at + 1] = dice.randbytes(1)
            else:
                bad[at:at] = dice.choice(_BYTES)
        return bytes(bad)
