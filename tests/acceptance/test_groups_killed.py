"""F10 for objects of several groups: the bridge is killed at random instants while carts store them again and again."""

import gc
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from bridge.domain.states import SETTLED
from bridge.sandbox import dicom_sender
from bridge.sandbox.peer import PeerError
from bridge.settings import load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance import test_kill
from tests.acceptance.process import Service, settings
from tests.acceptance.test_groups import THREE, an_object
from tests.ports import free_port

KILLS = int(os.environ.get("BRIDGE_GROUP_KILLS", "3"))
api = test_kill.api


class Cart(threading.Thread):
    """A cart that stores objects of three groups, one after the other, each again until its status is 0000."""

    def __init__(self, number: int, port: int, folder: Path, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._port, self._folder, self._over = number, port, folder, over
        self.kept: list[str] = []
        self.refused: list[int] = []

    def run(self) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            uid = f"1.2.826.0.1.3680043.10.9999.8.{self._number}.{count}"
            folder = self._folder / f"{self._number}-{count}"
            folder.mkdir()
            path = an_object(folder, *THREE, SOPInstanceUID=uid, PatientID=f"P{self._number}{count % 5}")
            while True:
                try:
                    (status,) = dicom_sender.store("127.0.0.1", self._port, [path], timeout=10)
                except PeerError:
                    if self._over.is_set():
                        return
                    time.sleep(0.02)
                    continue
                if status == 0:
                    self.kept.append(uid)
                else:
                    self.refused.append(status)
                break


@pytest.mark.campaign
@pytest.mark.timeout(600)
# pynetdicom leaves a socket open where its peer is killed under it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_f10_killed_at_random_instants_no_group_is_lost_and_none_is_twice(
    tmp_path: Path, api: tuple[str, Path]
) -> None:
    address, journal = api
    port = free_port()
    environment = settings(tmp_path, address, BRIDGE_DICOM__LISTEN=f"127.0.0.1:{port}")
    service = Service(environment, tmp_path / "service.log")
    dice = random.Random(20260302)
    over = threading.Event()
    carts = [Cart(n, port, tmp_path, over) for n in range(3)]
    service.start()
    for cart in carts:
        cart.start()
    for _ in range(KILLS):
        before = sum(len(cart.kept) for cart in carts)
        patience = time.monotonic() + 30
        while sum(len(cart.kept) for cart in carts) == before:
            assert time.monotonic() < patience, "no cart was answered"
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.5))
        service.end(signal.SIGKILL)
        service.start()
    over.set()
    for cart in carts:
        cart.join(30)
    gc.collect()  # the sockets that are left are warned of here, where it is known why
    engine = reader_engine(load(None, environment).store.sqlite_path)
    patience = time.monotonic() + 120
    while True:
        with engine.connect() as conn:
            rows = {r.sop_instance_uid: r for r in listing.rows(conn, limit=1_000_000)}
        if all(r.state in SETTLED for r in rows.values()) or time.monotonic() > patience:
            break
        time.sleep(0.1)
    service.end(signal.SIGTERM)
    with engine.connect() as conn:
        whole = {uid: listing.whole(conn, int(r.id)) or {} for uid, r in rows.items()}
    engine.dispose()

    created = [json.loads(line)["request"] for line in journal.read_text().splitlines()]
    times = Counter(tag for request in created for tag in request["searching_tags"] if tag.startswith("br1-"))
    assert not [cart.refused for cart in carts if cart.refused]
    kept = [uid for cart in carts for uid in cart.kept]
    lost = [uid for uid in kept if uid not in rows]
    tasks = [task for found in whole.values() for task in found["tasks"]]
    doubts = [uid for uid, r in rows.items() if r.state == "IN_DOUBT"]
    print(f"{KILLS} kills: {len(kept)} objects kept, {len(created)} tasks, {len(doubts)} objects in doubt")
    assert len(kept) > KILLS
    assert lost == []
    assert [(r.id, r.state, r.reason) for r in rows.values() if r.state not in {"CREATED", "IN_DOUBT"}] == []
    assert [key for key, count in times.items() if count > 1] == []
    # Every group of every object has its row: created, or in doubt; a row is created as often as the API says.
    assert {uid: len(found["tasks"]) for uid, found in whole.items()} == dict.fromkeys(whole, 3)
    assert {task["state"] for task in tasks} <= {"CREATED", "IN_DOUBT"}
    assert all(times[task["key"]] == 1 for task in tasks if task["state"] == "CREATED")
    assert len(created) >= 3 * len(kept) - len([t for t in tasks if t["state"] == "IN_DOUBT"])
