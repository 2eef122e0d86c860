"""Character sets (MSH-18, table 0211) and escape sequences (HL7 v2.5.1 §2.7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.hl7.charset import declared, decode, encode_answer
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
        (("ISO IR14", "ISO IR87"), "山田".encode("iso2022_jp"), "山田", "iso2022_jp_2", False),
        (("", "ISO IR87"), "山田".encode("iso2022_jp"), "山田", "iso2022_jp_2", False),
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
    if not found.codec.startswith(("cp95", "gb")):
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
