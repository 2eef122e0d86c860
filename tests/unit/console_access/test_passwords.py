"""Passwords at rest: Argon2id as RFC 9106 recommends it, one spelling, and what nobody's wrong password is."""

import asyncio
import unicodedata

import pytest
from argon2 import extract_parameters
from argon2.exceptions import VerificationError
from argon2.low_level import Type
from argon2.profiles import CHEAPEST

from bridge.console.access import passwords
from bridge.console.access.passwords import Busy, Passwords


async def test_the_second_recommended_option_of_rfc_9106_or_better() -> None:
    made = Passwords()
    stored = await made.hashed("correct horse battery")
    found = extract_parameters(stored)
    assert found.type is Type.ID
    assert found.memory_cost >= 64 * 1024
    assert (found.time_cost, found.parallelism) >= (3, 4)
    assert (found.salt_len, found.hash_len) >= (16, 32)
    assert await made.fits(stored, "correct horse battery")
    assert not await made.fits(stored, "correct horse battery ")
    assert not made.is_outdated(stored)
    assert made.is_outdated(await Passwords(CHEAPEST).hashed("x"))
    assert extract_parameters(made._nobody) == found, "nobody costs what somebody does"


async def test_one_password_however_the_keyboard_composes_it() -> None:
    made = Passwords(CHEAPEST)
    password = "ü" * 128
    stored = await made.hashed(password)
    assert await made.fits(stored, unicodedata.normalize("NFD", password))
    assert not await made.fits(stored, password + "ü")
    assert not await made.fits("", "")
    assert not await made.fits("no hash at all", password)


async def test_without_memory_it_is_nobodys_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Passwords(CHEAPEST)

    def full(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    monkeypatch.setattr(passwords.PasswordHasher, "verify", full)
    with pytest.raises(Busy):
        await made.fits("", "x")


async def test_a_long_line_of_guesses_is_refused_and_goes_by() -> None:
    made = Passwords(CHEAPEST)
    tries = [asyncio.ensure_future(made.fits("", "x")) for _ in range(passwords.AT_ONCE + passwords.WAITING + 3)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(one) for one in ended].count(Busy) == 3
    assert ended.count(False) == passwords.AT_ONCE + passwords.WAITING
    assert await made.fits("", "x") is False
