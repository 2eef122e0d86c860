"""One contract for every place of payloads: a folder of one process, one that several share, a bucket (A1, F6)."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.errors import StoreError, StoreRefused
from bridge.store.payload_place import Damaged, name_of
from tests.contract.payload_scenes import KINDS, Scene, keep, make_old, read


def named(content: bytes) -> str:
    return name_of(hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("content", [b"", b"ecg", os.urandom(300_000)], ids=["nothing", "three-bytes", "300-kB"])
def test_a1_what_is_kept_is_read_back_by_its_name(scene: Scene, content: bytes) -> None:
    payloads = scene.process()
    assert keep(payloads, content) == named(content)
    assert read(scene.process() if not scene.is_alone else payloads, named(content)) == content
    assert scene.names() == [named(content)]
    assert list(payloads.spool.iterdir()) == []


def test_the_same_content_is_kept_once(scene: Scene) -> None:
    one = scene.process()
    other = one if scene.is_alone else scene.process()
    assert keep(one, b"ecg") == keep(other, b"ecg") == keep(one, b"ecg")
    assert scene.names() == [named(b"ecg")]


def test_f4_what_was_not_kept_is_gone(scene: Scene) -> None:
    payloads = scene.process()
    file = payloads.incoming()
    file.write(b"half of an")
    file.close()
    assert scene.names() == list(payloads.spool.iterdir()) == []


def test_what_is_missing_is_said_in_the_same_words_everywhere(scene: Scene) -> None:
    with pytest.raises(FileNotFoundError) as problem:
        read(scene.process(), named(b"ecg"))
    assert problem.value.strerror == "No such file or directory"


@pytest.mark.parametrize("damage", [b"", b"ec", b"egc", b"ecg and more"])
def test_a1_a_damaged_payload_is_made_whole_by_the_resend(scene: Scene, damage: bytes) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    scene.put(name, damage)
    assert keep(payloads, b"ecg") == name
    assert read(payloads, name) == b"ecg"


def test_a_copy_of_a_damaged_payload_is_not_given_out(scene: Scene) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    scene.put(name, b"egc")
    if scene.is_bucket:
        with pytest.raises(Damaged):
            read(payloads, name)
    else:
        assert read(payloads, name) == b"egc", "a file is given as it is: who reads it sees what is wrong"
    assert list(payloads.spool.iterdir()) == []


def test_what_was_kept_for_nothing_goes_at_once_only_where_no_other_process_can_rest_on_it(scene: Scene) -> None:
    payloads = scene.process()
    file = payloads.incoming()
    file.write(b"ecg")
    file.keep()
    file.close(unsure=True, needless=lambda _: True)
    assert scene.names() == ([] if scene.is_alone else [named(b"ecg")])


def test_what_no_row_knows_is_waste_once_it_is_old(scene: Scene) -> None:
    payloads = scene.process()
    known, unknown = keep(payloads, b"ecg"), keep(payloads, b"for nothing")
    assert payloads.waste(lambda name: name == known) == 0, "its row may be on its way"
    assert len(scene.names()) == 2
    assert payloads.waste(lambda name: name == known, older=-1) == 1
    assert scene.names() == [known]
    assert not payloads.place.has(unknown)


def test_what_is_coming_in_is_no_waste(scene: Scene) -> None:
    payloads = scene.process()
    known = keep(payloads, b"ecg")
    growing, kept = payloads.incoming(), payloads.incoming()
    growing.write(b"half of an")
    kept.write(b"another ecg")
    waits, _ = kept.keep()
    assert payloads.waste(lambda name: name == known) == 0
    assert payloads.waste(lambda name: name == known, older=-1) == 0, "it is in hand here"
    growing.write(b" object")
    whole, _ = growing.keep()
    kept.close()
    growing.close()
    assert (read(payloads, waits), read(payloads, whole)) == (b"another ecg", b"half of an object")


def test_f27_nothing_is_waste_on_the_word_of_a_database_that_knows_nothing(scene: Scene) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    with pytest.raises(StoreRefused, match="knows none of the 1 old recordings"):
        payloads.waste(lambda _: False, older=-1)
    with pytest.raises(StoreRefused, match="holds recordings already"):
        payloads.require_none(Path("new.db"))
    assert scene.names() == [name]


def test_f27_an_empty_place_belongs_to_a_new_database(scene: Scene) -> None:
    payloads = scene.process()
    payloads.require_none(Path("new.db"))
    assert payloads.waste(lambda _: False) == 0


def test_removed_is_removed_once_and_never_what_a_row_knows(scene: Scene) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    assert not payloads.remove(name, lambda _: True)
    assert read(payloads, name) == b"ecg"
    assert payloads.remove(name, lambda _: False)
    assert not payloads.remove(name, lambda _: False)
    assert scene.names() == list(payloads.spool.iterdir()) == []


def test_a_row_that_comes_while_its_payload_is_removed_gets_it_back(scene: Scene) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    answers = iter([False, True])
    assert not payloads.remove(name, lambda _: next(answers))
    assert read(payloads, name) == b"ecg"
    assert list(payloads.spool.iterdir()) == []


def test_a_store_that_does_not_say_whether_a_row_came_keeps_the_payload(scene: Scene) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    asked: list[str] = []

    def is_known(name: str) -> bool:
        asked.append(name)
        if len(asked) > 1:
            raise StoreError("invented")
        return False

    with pytest.raises(StoreError, match="invented"):
        payloads.remove(name, is_known)
    assert read(payloads, name) == b"ecg"


def test_a_damaged_payload_can_be_removed(scene: Scene) -> None:
    payloads = scene.process()
    name = keep(payloads, b"ecg")
    scene.put(name, b"egc")
    assert payloads.remove(name, lambda _: False)
    assert scene.names() == []


def test_an_arrival_that_found_its_content_there_sees_to_it_behind_its_row(scene: Scene) -> None:
    """Old waste, which a resend of the same content rests on, is removed between its `keep` and its row."""
    one = scene.process()
    other = one if scene.is_alone else scene.process()
    name = keep(one, b"ecg")
    file = one.incoming()
    file.write(b"ecg")
    file.keep()
    scene.take_away(name)
    file.close()  # its row is there
    assert read(other, name) == b"ecg"
    assert list(one.spool.iterdir()) == []


def test_what_is_in_hand_here_is_not_removed_here(scene: Scene) -> None:
    payloads = scene.process()
    file = payloads.incoming()
    file.write(b"ecg")
    name, _ = file.keep()
    assert not payloads.remove(name, lambda _: False)
    file.close()
    assert read(payloads, name) == b"ecg"


@pytest.mark.parametrize("scene", KINDS[1:], indirect=True)
def test_f6_a_start_of_one_process_leaves_what_another_has_in_hand(scene: Scene) -> None:
    one = scene.process()
    growing, kept = one.incoming(), one.incoming()
    growing.write(b"half of an")
    kept.write(b"ecg")
    name, _ = kept.keep()
    other = scene.process()
    assert other.sweep(lambda _: False) == 0
    assert other.waste(lambda _: False) == 0
    growing.write(b" object")
    kept.close()
    again, _ = growing.keep()
    growing.close()
    assert (read(one, name), read(one, again)) == (b"ecg", b"half of an object")


def test_f6_what_a_killed_process_left_in_the_spool_goes_and_what_a_row_knows_gets_its_name(scene: Scene) -> None:
    payloads = scene.process()
    for number, content in enumerate((b"half of an", b"set aside, and its row came")):
        (payloads.spool / f"aside-{number}").write_bytes(content)
    make_old(payloads)
    payloads.sweep(lambda name: name == named(b"set aside, and its row came"))
    assert read(payloads, named(b"set aside, and its row came")) == b"set aside, and its row came"
    assert len(scene.names()) == 1
    assert list(payloads.spool.iterdir()) == []


def test_f6_of_one_process_alone_a_start_removes_what_has_a_name_and_no_row(scene: Scene) -> None:
    payloads = scene.process()
    file = payloads.incoming()
    file.write(b"ecg")
    file.keep()
    file.close(unsure=True)
    make_old(payloads)
    assert payloads.sweep(lambda _: False) == (1 if scene.is_alone else 0)
    assert scene.names() == ([] if scene.is_alone else [named(b"ecg")])
    assert list(payloads.spool.iterdir()) == []


def test_names_of_others_in_the_same_place_are_nobody_s_business(scene: Scene) -> None:
    payloads = scene.process()
    known = keep(payloads, b"ecg")
    for stranger in ("ab/notes.dcm", f"cd/{'ab' * 32}.dcm", "ab/README"):
        scene.put(stranger, b"not ours")
    assert [name for name, _ in payloads.place.kept()] == [known]
    assert payloads.waste(lambda name: name == known, older=-1) == 0


def test_the_room_is_this_host_s(scene: Scene) -> None:
    assert scene.process().free() > 0


def test_arrivals_and_removals_of_the_same_content_at_once_leave_every_row_its_payload(scene: Scene) -> None:
    """A row comes and a row goes, each at any moment of the other: whoever is there at the end can be read."""
    arriving = scene.process()
    removing = arriving if scene.is_alone else scene.process()
    rows: set[str] = set()
    begin = threading.Barrier(2)

    def arrive(content: bytes) -> None:
        begin.wait()
        file = arriving.incoming()
        file.write(content)
        name, _ = file.keep()
        rows.add(name)
        file.close()

    for number in range(10 if scene.is_bucket else 200):
        content = f"ecg {number % 5}".encode()
        name = keep(arriving, content)
        rows.discard(name)  # old, and pruned just now
        with ThreadPoolExecutor(1) as pool:
            arrived = pool.submit(arrive, content)
            begin.wait()
            removing.remove(name, rows.__contains__)
            arrived.result()
        assert rows >= {name}
        assert read(removing, name) == content
