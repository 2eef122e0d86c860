"""The writer's line: threads first, each lane in order, nothing forgotten."""

import threading
from concurrent.futures import ThreadPoolExecutor

from bridge.store.waiting import Waiting


def test_threads_go_first_and_each_lane_keeps_its_order() -> None:
    line: Waiting[str] = Waiting()
    for name in ("a1", "b1", "a2", "b2"):
        line.put(name, urgent=name.startswith("b"))
    assert line.group(3) == ["b1", "b2", "a1"]
    line.put("b3", urgent=True)
    line.put_back(["b2", "a1"], urgent=1)
    assert line.group(9) == ["b2", "b3", "a1", "a2"]


def test_what_waits_when_it_closes_is_handed_out() -> None:
    line: Waiting[int] = Waiting()
    line.put(1, urgent=False)
    line.close()
    assert line.group(9) == [1]
    assert line.group(9) == []


def test_many_threads_and_nothing_is_lost_or_twice() -> None:
    line: Waiting[int] = Waiting()
    taken: list[int] = []

    def take() -> None:
        while group := line.group(7):
            taken.extend(group[:5])
            line.put_back(group[5:], urgent=sum(one % 2 for one in group[5:]))

    taker = threading.Thread(target=take)
    taker.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: line.put(n, urgent=bool(n % 2)), range(2000)))
    line.close()
    taker.join(30)
    assert sorted(taken) == list(range(2000))


def test_what_came_meanwhile_is_handed_out_without_waiting() -> None:
    line: Waiting[int] = Waiting()
    assert line.more(5) == []
    line.put(1, urgent=False)
    line.put(2, urgent=True)
    line.put(3, urgent=False)
    assert line.more(2) == [2, 1]
    assert line.more(2) == [3]
