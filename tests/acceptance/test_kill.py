"""F7, F10, F11: the bridge is killed at random instants while senders resend; three journals are compared."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from bridge.domain.states import SETTLED
from bridge.settings import load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance.process import Sender, Service, api, await_work, settings
from tests.ports import free_port

__all__ = ["api"]
KILLS = int(os.environ.get("BRIDGE_KILLS", "5"))


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_f10_killed_at_random_instants_nothing_is_lost_and_nothing_is_twice(
    tmp_path: Path, api: tuple[str, Path]
) -> None:
    address, journal = api
    port = free_port()
    environment = settings(tmp_path, address, BRIDGE_HL7__LISTEN=f"127.0.0.1:{port}")
    service = Service(environment, tmp_path / "service.log")
    dice = random.Random(20260301)
    stop = threading.Event()
    senders = [Sender(n, port, stop) for n in range(4)]
    service.start()
    for sender in senders:
        sender.start()
    for kill in range(KILLS):
        if kill % 3:  # in the middle of its work; else while it takes up what the kill before left
            await_work(senders)
        time.sleep(dice.uniform(0.0, 0.4))
        service.end(signal.SIGKILL)
        service.start()
    stop.set()
    for sender in senders:
        sender.join(30)
    engine = reader_engine(load(None, environment).store.sqlite_path)
    patience = time.monotonic() + 120
    while True:
        with engine.connect() as conn:
            rows = {r.order: r for r in listing.rows(conn, limit=1_000_000)}
        if all(r.state in SETTLED for r in rows.values()) or time.monotonic() > patience:
            break
        time.sleep(0.05)
    engine.dispose()
    service.end(signal.SIGTERM)

    acknowledged = [name for sender in senders for name in sender.acknowledged]
    created = [json.loads(line) for line in journal.read_text().splitlines()]
    by_order: dict[str, int] = {}
    for entry in created:
        number = entry["request"]["investigation_id"].removeprefix("ACC")
        by_order[number] = by_order.get(number, 0) + 1

    assert not [s.refused for s in senders if s.refused]
    lost = [n for n in acknowledged if n not in rows or (rows[n].state != "IN_DOUBT" and not rows[n].task_ids)]
    unfinished = [r.order for r in rows.values() if r.state not in {"CREATED", "IN_DOUBT"}]
    twice = [n for n, times in by_order.items() if times > 1]
    in_doubt = [r.order for r in rows.values() if r.state == "IN_DOUBT"]
    print(
        f"{KILLS} kills: acknowledged {len(acknowledged)}, created {len(created)}, in doubt {len(in_doubt)}, "
        f"lost {len(lost)}, unfinished {len(unfinished)}, twice {len(twice)}"
    )
    assert len(acknowledged) > KILLS
    assert (lost, twice) == ([], [])
    assert set(unfinished) <= {n for n in rows if n not in acknowledged}
    assert all(by_order.get(n, 0) == 1 for n, r in rows.items() if r.state == "CREATED")
