"""What the door decides by words alone: names of persons, addresses to go on to, Host and Origin, attempts, locks."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from bridge.console.access.attempts import Attempts, lock_after, network
from bridge.console.access.names import folded, page_of_ours, person_name
from bridge.console.access.origin import Names
from bridge.console.access.passwords import require_good
from bridge.errors import ActionRefused
from tests.acceptance.virtual_clock import VirtualClock

LOOPBACK, OPEN, NAMED = Names("127.0.0.1:8080"), Names("0.0.0.0:8080"), Names("0.0.0.0:8080", ("bridge.example",))
PROXIED = Names("127.0.0.1:8080", ("https://bridge.example", "other.example:8443"))


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/", "/"),
        ("/messages/4711?tab=sent", "/messages/4711?tab=sent"),
        ("/messages?q=M%C3%BCller", "/messages?q=M%C3%BCller"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" //evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("evil.example", "/"),
        ("", "/"),
        ("/sign-in?next=/", "/"),
        ("/sign-out", "/"),
        ("/set-up", "/"),
        ("/events", "/"),
        ("/api/messages", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_a_sign_in_leads_to_pages_of_ours_alone(asked: str, led: str) -> None:
    assert page_of_ours(asked) == led


@given(st.text())
def test_wherever_it_leads_is_a_path(asked: str) -> None:
    led = page_of_ours(asked)
    assert led.startswith("/")
    assert not led.startswith(("//", "/\\"))
    assert led.isprintable()


def test_names_are_compared_folded() -> None:
    assert folded("  Straße\u00a0 MU\u0308LLER ") == "strasse müller"
    assert person_name("Ｊöｈn.Doe@North") == "jöhn.doe@north"
    assert person_name("山田 太郎") == "山田 太郎"


@given(st.text())
def test_a_folded_name_stays_as_it_is(name: str) -> None:
    assert folded(folded(name)) == folded(name)


@pytest.mark.parametrize(
    "name", ["", "   ", "a" * 65, "a\u202eb", "a\nb\x00", "<b>", "a/b", "local", "Unknown", "a\u200bb"]
)
def test_a_name_that_could_deceive_is_refused_without_being_said(name: str) -> None:
    with pytest.raises(ActionRefused) as refused:
        person_name(name)
    assert not name.strip() or name not in str(refused.value)


@pytest.mark.parametrize("password", ["", "elevenchars", "a" * 129, "aaaaaaaaaaaaaaa", "Anna Example Muster"])
def test_a_password_that_is_none_is_refused(password: str) -> None:
    with pytest.raises(ActionRefused):
        require_good(password, "anna example muster")


def test_a_password_of_twelve_characters_is_taken() -> None:
    require_good("twelve chars", "anna")
    require_good("ä" * 4 + "öüßé" * 3, "anna")
    require_good("abcd" * 32, "anna")


def _known(names: Names, *hosts: str, own: str = "") -> bool:
    return names.known(Headers(raw=[(b"host", h.encode("latin-1")) for h in hosts]), own)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "localhost:9000"])
def test_loopback_is_called_by_its_names(host: str) -> None:
    """A tunnel to it has another port."""
    assert _known(LOOPBACK, host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evil@localhost",
     "localhost/evil", "", "127.0.0.1:8080:1", "[::1", "192.0.2.1", "local\u00adhost"],
)  # fmt: skip
def test_a_name_that_was_rebound_to_loopback_is_refused(host: str) -> None:
    assert not _known(LOOPBACK, host)


def test_beyond_loopback_any_name_is_taken_unless_some_are_listed() -> None:
    assert _known(OPEN, "bridge.example:8080")
    assert _known(NAMED, "BRIDGE.example")
    assert _known(NAMED, "bridge.example:8080")
    assert not _known(NAMED, "evil.example")
    assert _known(NAMED, "192.0.2.7:8080", own="192.0.2.7"), "the address that it was reached by"
    assert not _known(NAMED, "192.0.2.8:8080", own="192.0.2.7")
    assert _known(PROXIED, "other.example:8443")
    assert not _known(PROXIED, "other.example:8444")
    assert not _known(OPEN, "a.example", "b.example")
    assert not _known(OPEN)


def _ours(names: Names, scheme: str = "http", **headers: str) -> bool:
    return names.is_ours(Headers({k.replace("_", "-"): v for k, v in headers.items()}), scheme)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://127.0.0.1:8080", "http", "127.0.0.1:8080"),
        ("http://localhost", "http", "localhost:80"),
        ("https://bridge.example", "https", "bridge.example"),
        ("https://bridge.example:443", "https", "BRIDGE.example"),
        ("http://[::1]:8080", "http", "[::1]:8080"),
    ],
)
def test_a_form_of_ours_is_known_by_its_origin(origin: str, scheme: str, host: str) -> None:
    assert _ours(OPEN, scheme, origin=origin, host=host)


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://evil.example", "https://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1",
     "http://localhost:8080", "http://127.0.0.1:8080.evil.example", "http://127.0.0.1:8080/", "127.0.0.1:8080",
     "http://127.0.0.1:8080 http://evil.example"],
)  # fmt: skip
def test_a_foreign_origin_is_refused(origin: str) -> None:
    assert not _ours(LOOPBACK, origin=origin, host="127.0.0.1:8080", sec_fetch_site="same-origin")


@pytest.mark.parametrize(("site", "ours"), [("same-origin", True), ("same-site", False), ("none", False), ("", False)])
def test_without_an_origin_the_browser_must_say_that_it_is_ours(site: str, *, ours: bool) -> None:
    assert _ours(LOOPBACK, host="127.0.0.1:8080", sec_fetch_site=site) is ours
    assert not _ours(LOOPBACK, host="127.0.0.1:8080")


def test_behind_a_proxy_that_speaks_tls_the_origin_is_encrypted() -> None:
    assert _ours(PROXIED, origin="https://bridge.example", host="bridge.example")
    assert not _ours(PROXIED, origin="http://bridge.example", host="bridge.example")


def test_an_address_is_a_host_of_ipv4_and_a_network_of_ipv6() -> None:
    assert network("192.0.2.1") == network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("2001:db8::1") == network("2001:db8::ffff:1%eth0") != network("2001:db8:0:1::1")
    assert network("unknown") == "unknown"


def test_ten_attempts_a_minute_and_the_oldest_addresses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.console.access.attempts.ADDRESSES", 3)
    attempts = Attempts(VirtualClock())
    assert [attempts.count("a") for _ in range(10)] == [0] * 10
    assert 0 < attempts.count("a") <= 60
    for other in "bcd":
        assert attempts.count(other) == 0
    assert len(attempts._of) == 3
    assert attempts.count("a") == 0


def test_a_lock_doubles_up_to_a_quarter_of_an_hour() -> None:
    lengths = [lock_after(n) for n in range(4, 13)]
    assert lengths[0] is None
    assert [one.total_seconds() for one in lengths[1:] if one] == [30, 60, 120, 240, 480, 900, 900, 900]
    assert lock_after(10**9) == timedelta(minutes=15)
