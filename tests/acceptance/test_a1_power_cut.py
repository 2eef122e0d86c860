"""A1, A7: the power is cut, and what was acknowledged is there. The disk is a `cutting_fs`: it is able to lose."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.opening import site_key
from bridge.settings import Settings, load
from bridge.store.payloads import Payloads
from bridge.store.port import Transaction
from bridge.store.sqlite import SqliteStore
from tests.campaign.powercut import Power, run


@pytest.fixture
def power() -> Iterator[Power]:
    """A disk that is on. Needs the right to mount; under CI=true that is asked for."""
    with Power() as disk:
        try:
            disk.on(leak=0.0, seed=0)
        except OSError as problem:
            if os.environ.get("CI") == "true":
                pytest.fail(f"a file system cannot be mounted here: {problem}")
            pytest.skip("a file system cannot be mounted here")
        yield disk


def back(power: Power) -> None:
    """The power is cut, and comes back."""
    power.cut()
    power.off()
    power.on(leak=0.0, seed=0)


def settings(power: Power) -> Settings:
    return load(None, {"BRIDGE_STORE__URL": f"sqlite:///{power.mount}/db/bridge.db"})


def marked(power: Power, text: str) -> list[str]:
    """Open the store, write a mark, and say which were there before."""
    store = SqliteStore(settings(power).store.sqlite_path)
    store.open(loop := asyncio.new_event_loop())

    def work(tx: Transaction) -> list[str]:
        there = [name for (name,) in tx.conn.exec_driver_sql("SELECT name FROM mark WHERE value = 'cut'")]
        tx.conn.exec_driver_sql("INSERT INTO mark (name, value) VALUES (?, 'cut')", (text,))
        return there

    try:
        return store.write_from_thread(work)
    finally:
        store.close()
        loop.close()


def test_a1_what_the_first_start_has_committed_survives_a_power_cut(power: Power) -> None:
    assert marked(power, "first") == []
    back(power)
    assert marked(power, "second") == ["first"]


def test_a1_the_sites_key_survives_a_power_cut(power: Power) -> None:
    (power.mount / "db").mkdir()
    key = site_key(settings(power))
    back(power)
    assert site_key(settings(power)) == key


def test_a1_a_payload_survives_a_power_cut_however_deep_its_folder_lies(power: Power) -> None:
    root = power.mount / "a" / "b" / "c" / "payloads"
    payloads = Payloads(root, min_free=1)
    payloads.open()
    incoming = payloads.incoming()
    incoming.write(b"an object")
    name, _ = incoming.keep()
    incoming.close()
    back(power)
    assert (root / name).read_bytes() == b"an object"


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a7_three_cuts_lose_nothing(power: Power, tmp_path: Path) -> None:
    """What is not synced is missed: tests/seeded plants such faults, and this test goes red."""
    said: list[str] = []
    result = run(1, 5, said.append, most=3, leaks=(0.0,))
    print(*said, sep="\n")
    assert result.red() == {}
    assert result.counts["cuts"] == 3


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a7_three_cuts_find_files_that_are_not_synced(power: Power) -> None:
    assert run(1, 5, print, most=3, leaks=(0.0,), sabotage="no_file_fsync").red()
