"""Character sets (MSH-18, table 0211) and escape sequences (HL7 v2.5.1 §2.7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.hl7 import iso2022
from bridge.formats.hl7.charset import declared, decode, encode_answer, encode_field, splits_in_bytes
from bridge.formats.hl7.escapes import escape, unescape
from bridge.formats.hl7.header import Delimiters
from bridge.formats.hl7.reader import read

D = Delimiters()
D27 = Delimiters(truncation="#")


@pytest.mark.parametrize(
    ("declares", "raw", "text", "codec", "noted"),
    [
        ((), b"Muster", "Muster", "ascii", False),
        ((), "Müster".encode(), "Müster", "utf-8", True),
        ((), "Müster".encode("cp1252"), "Müster", "cp1252", True),
        ((), b"a\x81b", "a\x81b", "cp1252", True),
        (("ASCII",), "Müster".encode("cp1252"), "Müster", "cp1252", True),
        (("8859/1",), "Müster".encode("latin-1"), "Müster", "cp1252", False),
        (("8859/1",), b"\x8aime\x9e", "Šimež", "cp1252", False),
        (("8859/15",), "Müster€".encode("iso8859-15"), "Müster€", "iso8859-15", False),
        (("8859/15",), "Müster€".encode(), "Müster€", "utf-8", True),
        (("8859/2",), "Łucja".encode("iso8859-2"), "Łucja", "iso8859-2", False),
        (("8859/5",), "Иван".encode("iso8859-5"), "Иван", "iso8859-5", False),
        (("CP1250",), "Žižka".encode("cp1250"), "Žižka", "cp1250", False),
        (("UNICODE UTF-8",), "Müster".encode(), "Müster", "utf-8", False),
        (("UNICODE",), "Müster".encode(), "Müster", "utf-8", False),
        (("utf-8",), "Müster".encode(), "Müster", "utf-8", False),
        (("UNICODE UTF-8",), "Müster".encode("cp1252"), "Müster", "cp1252", True),
        (("CAN",), "Müster".encode(), "Müster", "utf-8", True),
        (("20260419100000",), b"Muster", "Muster", "ascii", True),
        (("GB 18030-2000",), "王小明".encode("gb18030"), "王小明", "gb18030", False),
        (("BIG-5",), "許功".encode("cp950"), "許功", "cp950", False),
        (("KS X 1001",), "홍길동".encode("cp949"), "홍길동", "cp949", False),
        (("ISO IR14", "ISO IR87"), "山田".encode("iso2022_jp"), "山田", "iso2022:ir14,ir87", False),
        (("", "ISO IR87"), "山田".encode("iso2022_jp"), "山田", "iso2022:ascii,ir87", False),
        (("CNS 11643-1992",), "Müster".encode(), "Müster", "utf-8", True),
    ],
)
def test_hl7_0211_declared_then_utf8_then_fallback(declares, raw, text, codec, noted):
    found = decode(raw, declares)
    assert (found.text, found.codec, bool(found.note)) == (text, codec, noted)


def test_the_site_names_its_fallback():
    assert decode("Žižka".encode("cp1250"), (), "cp1250").text == "Žižka"


@given(st.binary(max_size=60), st.sampled_from([(), ("8859/1",), ("8859/7",), ("UTF-8",), ("ASCII",), ("BIG-5",)]))
def test_decoding_never_fails_and_bytes_of_single_byte_sets_come_back(raw, declares):
    found = decode(raw, declares)
    if not found.codec.startswith(("cp95", "gb", "iso2022")):
        assert found.text.encode(found.codec, "bridge-bytes") == raw


def _header(charset: str):
    return read(b"MSH|^~\\&|HIS||||20260101||ADT^A08|1|P|2.5||||||" + charset.encode() + b"\r").header


@pytest.mark.parametrize(
    ("charset", "text", "written"),
    [
        ("UNICODE UTF-8", "Müller Ł 王", "Müller Ł 王".encode()),
        ("8859/1", "Müller", "Müller".encode("latin-1")),
        ("ASCII", "Müller Straße Ł", b"Muller Strasse L"),
        ("8859/1", "王", b"_"),
        ("ASCII", "a｜b＾c", b"a_b_c"),
        ("8859/2", "Łódź ñ", "Łódź n".encode("iso8859-2")),
    ],
)
def test_hl7_v2_15_9_18_the_answer_is_in_the_set_it_declares_and_has_no_question_marks(charset, text, written):
    header = _header(charset)
    assert encode_answer(text, header, "cp1252") == written
    assert declared(header.charsets) is not None


def test_hl7_without_msh18_the_answer_is_in_the_set_the_sender_was_read_with():
    assert encode_answer("Müller", _header(""), "cp1252") == "Müller".encode("cp1252")
    assert encode_answer("Müller", _header(""), "ascii") == b"Muller"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"A\F\B", "A|B"),
        (r"A\S\B\T\C\R\D\E\E", "A^B&C~D\\E"),
        (r"\E\F\ ", "\\F\\ "),
        (r"\H\fett\N\ weiter", "fett weiter"),
        (r"eins\.br\zwei", "eins\nzwei"),
        (r"eins\.sp2\zwei\.in+4\drei\.fi\.", "eins\n\nzwei    drei."),
        (r"\X41\\X42\ ", "AB "),
        (r"\XC3BC\ ", "Ã¼ "),
        (r"\X0D0A\ ", "\n "),
        (r"\X4\ ", r"\X4\ "),
        (r"4\5 re. rest", r"4\5 re. rest"),
        (r"a\b \F\ c", r"a\b | c"),
        (r"\Z99\ \C2842\ \M244042\ ", r"\Z99\ \C2842\ \M244042\ "),
        (r"\P\ ", r"\P\ "),
        ("kein", "kein"),
        ("\\", "\\"),
        (r"\.sp999999\ ", "\n" * 100 + " "),
    ],
)
def test_hl7_v2_7_escapes(sent, meant):
    assert unescape(sent, D) == meant


def test_hl7_v27_2_7_2_truncation_only_where_it_is_declared():
    assert unescape(r"cut\P\at", D27) == "cut#at"
    assert escape("a#b", D27) == r"a\P\b"
    assert escape("a#b", D) == "a#b"


def test_hl7_hex_bytes_are_read_in_the_messages_set_even_in_pieces():
    assert unescape(r"M\XC3\\XBC\ller", D, lambda raw: raw.decode("utf-8")) == "Müller"


@given(st.text(alphabet=st.characters(min_codepoint=32, exclude_characters="\x7f"), max_size=60))
def test_what_is_escaped_comes_back_and_holds_no_delimiter(text):
    written = escape(text, D)
    assert not set(written) & set("|^~&")
    assert unescape(written, D, lambda raw: raw.decode("latin-1")) == text


def test_control_characters_never_enter_a_field():
    assert escape("a\r\nMSA|AA\x0b\x1c", D) == r"a  MSA\F\AA  "


EUROPE = {n: f"iso8859-{n}" for n in (*range(2, 10), 15)}
PAIRS = [bytes([high, low]) for high in range(0x81, 0xFF) for low in range(0x40, 0xFF) if low != 0x7F]
FOUR = [bytes([0x81, a, b, c]) for a in range(0x30, 0x37) for b in range(0x81, 0xFF) for c in range(0x30, 0x3A)]


def _of(codec: str, sequences: list[bytes]) -> str:
    """Every character that has one of these sequences as its own, in the codec's order."""
    read = ((raw, raw.decode(codec, "ignore")) for raw in sequences)
    return "".join(text for raw, text in read if len(text) == 1 and text.encode(codec) == raw)


@pytest.mark.parametrize(
    ("declares", "text", "raw"),
    [
        ("ASCII", (ascii_text := "".join(map(chr, range(0x20, 0x7F)))), None),
        ("ISO IR6", ascii_text, None),
        ("8859/1", (latin := "".join(map(chr, range(0xA0, 0x100)))), latin.encode("latin-1")),
        *((f"8859/{n}", _of(codec, [bytes([b]) for b in range(0xA0, 0x100)]), codec) for n, codec in EUROPE.items()),
        ("ISO IR14", (kana := "".join(map(chr, range(0xFF61, 0xFFA0)))), bytes(range(0xA1, 0xE0))),
        ("GB 18030-2000", _of("gb18030", PAIRS) + _of("gb18030", FOUR), "gb18030"),
        ("KS X 1001", _of("euc_kr", PAIRS), "euc_kr"),
        ("BIG-5", _of("cp950", PAIRS), "cp950"),
        ("CNS 11643-1992", _of("big5", [p for p in PAIRS if 0xA4 <= p[0] <= 0xC5]), "bridge_euc_tw"),
        ("UNICODE", "Müller Łódź Иван 王 😀", "utf-8"),
        ("UNICODE UTF-8", "Müller Łódź Иван 王 😀", "utf-8"),
        ("ISO IR87", (kanji := _of("euc_jp", [p for p in PAIRS if p[0] > 0xA0])), "iso2022_jp"),
        ("~ISO IR87", kanji, "iso2022_jp"),
        ("ISO IR6~ISO IR87~ISO IR159", "山田丂丄太郎", "iso2022_jp_1"),
        ("ISO IR14~ISO IR87", "山田^ﾔﾏﾀﾞ", b"\x1b$B;3ED\x1b(J^\xd4\xcf\xc0\xde"),
        ("~KS X 1001", "Hong^길동", b"Hong^\x1b$)C\xb1\xe6\xb5\xbf"),
        ("~CNS 11643-1992", "王小下乂", b"\x1b$(GE^DQD6\x1b$(H!!\x1b(B"),
        ("8859/1~8859/5", "Müller^Иван", b"M\xfcller^\x1b-L\xb8\xd2\xd0\xdd\x1b-A"),
        ("8859/1~ISO IR87", "Müller^山田ü", b"M\xfcller^\x1b$B;3ED\x1b(B\xfc"),
    ],
)
def test_hl7_0211_each_set_comes_back_over_its_repertoire(declares, text, raw):
    raw = text.encode("ascii") if raw is None else text.encode(raw) if isinstance(raw, str) else raw
    found = decode(raw, tuple(declares.split("~")))
    assert (found.text, found.note) == (text, "")
    assert encode_answer(found.text, _header(declares), found.codec) == raw
    assert encode_field(found.text, found.codec) == raw


def test_hl7_0211_repertoires_are_whole():
    assert len(_of("euc_jp", [p for p in PAIRS if p[0] > 0xA0])) == 6879  # JIS X 0208
    assert len(_of("euc_kr", PAIRS)) == 8225  # KS X 1001, but the Hangul filler
    assert len(_of("gb18030", FOUR)) > 5000
    assert len(_of("big5", [p for p in PAIRS if 0xA4 <= p[0] <= 0xC5])) > 5000


@pytest.mark.parametrize(
    ("declares", "raw", "text", "noted"),
    [
        ("~ISO IR87", b"\x1b$B;3ED\x1b(J^A~B\\T\\", "山田^A~B\\T\\", False),  # ESC ( J: the delimiters stay
        ("~ISO IR87", b"\x1b$@;3ED\x1b(B", "山田", False),
        ("~ISO IR87", b"\x1b$B|b66-!\x1b(B", "髙橋①", False),
        ("~ISO IR87", b"\x1b$B;3ED\rPID\x1b$BB@\x1b(B", "山田\rPID太", False),  # a segment begins in the default set
        ("ISO IR14~ISO IR87", b"\x1b(ITO@^\x1b(J~", "ﾔﾏﾀﾞ~", False),
        ("ISO IR14", b"\x1b(I\x54\x4f\x40\x5e\x1b(J^", "ﾔﾏﾀﾞ^", False),
        ("ISO IR14", b"\x1b)I\xd4\xcf", "ﾔﾏ", False),
        ("ISO IR14", b"\x1b$B;3ED\x1b(J\xd4", "山田ﾔ", False),
        ("ISO IR14", "髙橋①".encode("cp932"), "髙橋①", False),
        ("~ISO IR87~ISO IR159", b"\x1b$(D0!\x1b(B", "丂", False),
        ("KS X 1001", b"\x1b$)C" + "홍^길동".encode("euc_kr"), "홍^길동", False),
        ("KS X 1001", "홍길동".encode("iso2022_kr"), "홍길동", False),
        ("KS X 1001", "똠방".encode("cp949"), "똠방", False),  # a syllable that only code page 949 has
        ("~KS X 1001", "홍길동".encode("euc_kr"), "홍길동", False),
        ("~KS X 1001", b"\x1b$(CH+\x1b(B", "홍", False),
        ("CNS 11643-1992", b"\x1b$)G\x0eE^\x0f", "王", False),
        ("CNS 11643-1992", b"\x1b$*H\x1bN!!", "乂", False),
        ("ASCII~8859/1", b"M\xfcller", "Müller", False),
        ("8859/1~8859/2", b"\x8aime", "Šime", False),
        ("ASCII", b"\x1b$B;3ED\x1b(B", "山田", True),
        ("", b"\x1b$B;3ED\x1b(B", "山田", True),
        ("UNICODE UTF-8", b"\x1b$B;3ED\x1b(B", "山田", True),
        ("UNICODE UTF-8", "\x1b[1mMüller".encode(), "\x1b[1mMüller", False),
        ("", b"\x1b(8U", "\x1b(8U", False),
        ("~ISO IR87", "山田".encode(), "山田", True),
        ("UNICODE UTF-16", "Müller".encode(), "Müller", True),
        ("UNICODE UTF-32", b"Muster", "Muster", True),
        ("CNS 11643-1992", b"\x8e\xa7\xa1\xa1", "Ž§¡¡", True),
    ],
)
def test_hl7_0211_forms_of_a_set_that_senders_use(declares, raw, text, noted):
    found = decode(raw, tuple(declares.split("~")) if declares else ())
    assert (found.text, bool(found.note)) == (text, noted)


@pytest.mark.parametrize(
    ("spelled", "codec"),
    [
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ("Unicode UTF-8", "utf-8"),
        ("8859/1", "cp1252"),
        ("ISO-8859-1", "cp1252"),
        ("ISO_8859-1", "cp1252"),
        ("iso8859-1", "cp1252"),
        ("ISO8859-15", "iso8859-15"),
        ("CP1250", "cp1250"),
        ("windows-1252", "cp1252"),
        ("WINDOWS-1251", "cp1251"),
        ("ISO IR 87", "iso2022:ascii,ir87"),
        ("Big5", "cp950"),
        ("GB18030", "gb18030"),
        ("CAN", None),
        ("20260419100000", None),
        ("UNICODE UTF-16", None),
        ("", None),
    ],
)
def test_hl7_v2_15_9_18_spellings_seen_in_the_field(spelled, codec):
    assert declared((spelled,)) == codec


@pytest.mark.parametrize("declares", [("ISO IR14",), ("BIG-5",), ("KS X 1001",), ("GB 18030-2000",), ("", "ISO IR87")])
def test_hl7_0211_sets_whose_second_bytes_reach_into_ascii_are_not_split_in_bytes(declares):
    assert not splits_in_bytes(declared(declares))
    assert splits_in_bytes(declared(("CNS 11643-1992",)))
    assert splits_in_bytes(None)


def test_hl7_0211_a_sender_of_two_sets_without_escape_sequences_is_answered_without_them():
    assert decode(b"M\xfcller", ("ASCII", "8859/1")).codec == "cp1252"
    assert encode_answer("Müller", _header("ASCII~8859/1"), "cp1252") == b"M\xfcller"


def test_hl7_0211_what_no_declared_set_holds_becomes_its_letters_and_never_a_delimiter():
    assert encode_answer("Ł山｜田", _header("~ISO IR87"), "ascii") == b"L\x1b$B;3!CED\x1b(B"
    assert encode_answer("Ł王", _header("~KS X 1001"), "ascii")[:1] != b"?"
    assert iso2022.encode("a😀b", ["ascii", "ir87"], "replace") == b"a?b"
