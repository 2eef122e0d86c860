"""F40, F41: an older copy, a copy that went on by itself and a copy on another machine are told from the original."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.domain.states import State
from bridge.errors import StoreRefused
from bridge.store import inbox, line, listing, marks, quarantine, tasks
from bridge.store.backup import copy
from bridge.store.inbox import Arrival
from bridge.store.sqlite import SqliteStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def begun(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    store.open(asyncio.get_running_loop())
    return store


def why(path: Path) -> str:
    store = begun(path)
    store.close()
    return store.quarantine


async def kept(store: SqliteStore, name: str, state: State = State.RECEIVED) -> int:
    arrival = Arrival("hl7", "ORM^O01", NOW, "hl7", "127.0.0.1", "HIS|TEST", name, name, control_id=name, raw=b"MSH|")

    def work(tx: inbox.Transaction) -> int:
        made = inbox.keep(tx, arrival).id
        ways = {
            State.RECEIVED: (),
            State.INTENT: (State.READY, State.INTENT),
            State.UPLOADING: (State.READY, State.UPLOADING),
            State.RETRY: (State.READY, State.RETRY),
            State.IN_DOUBT: (State.READY, State.INTENT, State.IN_DOUBT),
            State.CREATED: (State.READY, State.CREATED),
        }
        before = State.RECEIVED
        for after in ways.get(state, (state,)):
            if after is State.INTENT:
                tasks.intend(
                    tx, message_id=made, position=1, order_id=None, purpose="draft", key=name, generation=1, body=b"{}",
                    traces=[], at=NOW,
                )  # fmt: skip
            inbox.move(tx, made, before, after, at=NOW)
            before = after
        return made

    return await store.write(work)


async def test_f41_every_commit_counts(tmp_path: Path) -> None:
    """Whichever copy is put back, however new it is: one commit less is enough to be noticed."""
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    for number in range(5):
        copy(store.path, tmp_path / f"copy{number}")
        await kept(store, f"m{number + 1}")
    copy(store.path, tmp_path / "newest")
    store.close()
    epoch = (tmp_path / "bridge.epoch").read_bytes()
    for name in [*(f"copy{n}" for n in range(5)), "newest"]:
        for old in ("db", "db-wal", "db-shm"):
            (tmp_path / f"bridge.{old}").unlink(missing_ok=True)
        shutil.copy(tmp_path / name, tmp_path / "bridge.db")
        (tmp_path / "bridge.epoch").write_bytes(epoch)
        assert why(tmp_path / "bridge.db") == ("" if name == "newest" else "it is older than its epoch file")


async def test_f41_the_file_knows_of_a_commit_before_anybody_else_does(tmp_path: Path) -> None:
    store = begun(tmp_path / "bridge.db")
    file = marks.EpochFile(tmp_path / "bridge.epoch")
    for number in range(10):
        await kept(store, f"m{number}")
        found = file.read()
        assert found is not None
        assert found.newest == await store.read(marks.newest)
        assert found.running
    store.close()
    assert file.read() == marks.Epoch(found.newest, found.line, found.machine, running=False)


async def test_f41_a_process_that_ends_between_commit_and_file_is_no_reason(tmp_path: Path) -> None:
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    before = (tmp_path / "bridge.epoch").read_bytes()
    await kept(store, "m1")
    store.close()
    (tmp_path / "bridge.epoch").write_bytes(before)
    assert why(tmp_path / "bridge.db") == ""


async def test_f41_a_copy_without_its_epoch_file_is_not_trusted(tmp_path: Path) -> None:
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    store.close()
    (tmp_path / "bridge.epoch").unlink()
    assert why(tmp_path / "bridge.db") == "its epoch file is missing"


async def test_f41_a_damaged_epoch_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    store.close()
    (tmp_path / "bridge.epoch").write_text("nonsense")
    with pytest.raises(StoreRefused, match=r"bridge\.epoch is damaged. Move it away"):
        begun(tmp_path / "bridge.db")


async def test_f41_a_store_from_before_there_were_marks_is_taken_up(tmp_path: Path) -> None:
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    await store.write(lambda tx: marks.put(tx.conn, marks.LINE, ""))
    store.close()
    (tmp_path / "bridge.epoch").unlink()
    assert why(tmp_path / "bridge.db") == ""
    assert why(tmp_path / "bridge.db") == ""


async def test_f40_a_copy_of_the_whole_folder_on_another_machine_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "this_machine", lambda: "a" * 32)
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    store.close()
    monkeypatch.setattr(marks, "this_machine", lambda: "b" * 32)
    assert why(tmp_path / "bridge.db") == "it was written on another machine"
    monkeypatch.setattr(marks, "this_machine", lambda: "a" * 32)
    assert why(tmp_path / "bridge.db") == "it was written on another machine", "until a person releases it"


async def test_f41_what_was_open_is_held_and_what_is_settled_stays(tmp_path: Path) -> None:
    store = begun(tmp_path / "bridge.db")
    states = [
        State.RECEIVED, State.READY, State.UPLOADING, State.RETRY, State.INTENT, State.IN_DOUBT, State.HELD,
        State.REJECTED, State.DONE, State.CREATED,
    ]  # fmt: skip
    for state in states:
        await kept(store, state.value, state)
    store.close()
    (tmp_path / "bridge.epoch").unlink()
    store = begun(tmp_path / "bridge.db")
    assert await store.write(lambda tx: quarantine.hold(tx, at=NOW)) == 5
    rows = {r.control_id: (r.state, r.reason) for r in await store.read(listing.rows)}
    for state in states[:4]:
        assert rows[state] == ("HELD", "quarantine")
    assert rows["INTENT"] == ("IN_DOUBT", "quarantine")
    assert {rows[s][0] for s in states[5:]} == set(states[5:])
    noted = await store.read(lambda conn: listing.whole(conn, 7))
    assert noted is not None
    assert noted["history"][-1]["reason"] == "quarantine", "what a person decided since the copy is not in it"
    later = await kept(store, "later", State.READY)
    assert await store.write(lambda tx: quarantine.hold(tx, at=NOW)) == 0, "once: what came in since is another matter"
    assert await store.read(lambda conn: listing.rows(conn, control_id="later")[0].state) == "READY"
    assert await store.write(lambda tx: line.claim_one(tx, "me", later))
    store.close()
    assert why(tmp_path / "bridge.db") == "its epoch file is missing", "a restart changes nothing"


@pytest.mark.parametrize(("send", "state"), [(True, "READY"), (False, "HELD")])
async def test_f41_a_release_begins_a_line_of_its_own(tmp_path: Path, send: bool, state: str) -> None:
    store = begun(tmp_path / "bridge.db")
    await kept(store, "m0")
    copy(store.path, tmp_path / "older")
    for number in range(1, 20):
        await kept(store, f"m{number}")
    store.close()
    shutil.copy(tmp_path / "bridge.db", tmp_path / "first-line")
    shutil.copy(tmp_path / "older", tmp_path / "bridge.db")
    store = begun(tmp_path / "bridge.db")
    assert store.quarantine
    await kept(store, "meanwhile", State.READY)
    meanwhile = await store.release_quarantine(lambda tx: quarantine.release(tx, at=NOW, send_waiting=send))
    assert meanwhile == 1
    found = await store.read(lambda conn: {r.control_id: r.state for r in listing.rows(conn)})
    assert found == {"m0": "HELD", "meanwhile": state}
    store.close()
    assert why(tmp_path / "bridge.db") == ""
    shutil.copy(tmp_path / "first-line", tmp_path / "bridge.db")
    assert why(tmp_path / "bridge.db") == "it is of another line than its epoch file", "however far it came"


def test_f40_a_machine_is_known_by_its_id_and_a_container_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_CONTAINER", (tmp_path / "container",))
    monkeypatch.setattr(marks, "_MACHINE_ID", tmp_path / "machine-id")
    assert marks.this_machine() == ""
    for text, known in [("uninitialized\n", ""), ("", ""), (f"{'c' * 32}\n", "c" * 32)]:
        (tmp_path / "machine-id").write_text(text)
        assert marks.this_machine() == known
    (tmp_path / "container").touch()
    assert marks.this_machine() == ""


async def test_f41_the_epoch_file_can_be_where_a_snapshot_of_the_store_does_not_bring_it_back(tmp_path: Path) -> None:
    elsewhere = tmp_path / "other-disk"
    elsewhere.mkdir()
    database = tmp_path / "disk" / "bridge.db"

    async def one_more(name: str) -> str:
        store = SqliteStore(database, elsewhere / "epoch")
        store.open(asyncio.get_running_loop())
        await kept(store, name)
        store.close()
        return store.quarantine

    assert await one_more("m0") == ""
    shutil.copytree(tmp_path / "disk", tmp_path / "snapshot")
    assert await one_more("m1") == ""
    shutil.rmtree(tmp_path / "disk")
    shutil.move(tmp_path / "snapshot", tmp_path / "disk")
    assert await one_more("m2") == "it is older than its epoch file"
    with pytest.raises(StoreRefused, match=r"store\.epoch_file: .* cannot be written"):
        SqliteStore(tmp_path / "new.db", tmp_path / "nowhere" / "epoch").open(asyncio.get_running_loop())
