"""What can be reached from this machine alone: elsewhere patient data needs encryption."""

import pytest

from bridge.errors import SettingsError
from bridge.setting_kinds import is_loopback
from bridge.settings import load


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:2575", "127.8.9.10:1", "localhost:80", "LOCALHOST:80", "[::1]:2575", "::1", "localhost/path?x=1",
     "127.0.0.1:8080/api", "user@127.0.0.1:80/"],
)  # fmt: skip
def test_loopback(address):
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:2575", "[::]:2575", "10.0.0.1:2575", "localhost.example.org:80", "127.0.0.1.example.org/api",
     "localhost@example.org/", "127.0.0.1@example.org:80", "127.example.org", "[::1].example.org:80", "[::2]:80", ""],
)  # fmt: skip
def test_can_be_reached_from_elsewhere(address):
    assert not is_loopback(address)


def test_a_name_that_only_looks_like_loopback_needs_encryption():
    with pytest.raises(SettingsError, match=r"https://"):
        load(None, {"BRIDGE_CARDIO__BASE_URL": "http://localhost.example.org"})
