"""Orders of a message: which segments belong to which."""

import pytest

from bridge.errors import BadInput
from bridge.formats.hl7.reader import read

HEAD = "MSH|^~\\&|HIS||||20260101||ORM^O01|1|P|2.5.1\rPID|1||4711^^^HIS||Muster^Max\rNTE|1||allgemein\rDG1|1||I10\r"


def message(*lines, head=HEAD):
    return read((head + "".join(f"{line}\r" for line in lines)).encode())


def values(view, address):
    return [f.value for f in view.find(address)]


def test_hl7_v2_4_4_each_orc_begins_an_order():
    m = message(
        "ORC|NW|A", "TQ1|1", "OBR|1|A", "NTE|1||zu A", "DG1|1||I48", "ORC|NW|B", "OBR|1|B", "ZDS|1.2", "IPC|ACC"
    )
    first, second = m.orders()
    assert (first.index, second.index) == (1, 2)
    assert (values(first, "ORC-2"), values(second, "ORC-2")) == (["A"], ["B"])
    assert (values(first, "TQ1-1"), values(second, "TQ1-1")) == (["1"], [])
    assert values(first, "NTE-3") == ["zu A", "allgemein"]
    assert values(second, "NTE-3") == ["allgemein"]
    assert values(first, "DG1-3") == ["I48", "I10"]
    assert (values(first, "ZDS-1"), values(second, "ZDS-1")) == ([], ["1.2"])
    assert values(second, "IPC-1") == ["ACC"]
    assert values(first, "PID-5.1") == values(second, "PID-5.1") == ["Muster"]
    assert values(second, "MSH-9.1") == ["ORM"]
    assert not first.shares_orc
    assert not second.shares_orc


def test_places_are_those_of_the_whole_message():
    m = message("ORC|NW|A||G", "OBR|1|A", "OBX|1|NM|8302-2||180", "ORC|NW|B||G", "OBR|1|B", "OBX|1|NM|8302-2||160")
    second = m.orders()[1]
    (found,) = second.find("ORC-4")
    assert found.where == "ORC[2]-4"
    assert m.find("ORC[2]-4") == [found] == second.find("ORC[2]-4")
    assert second.find("ORC[1]-4") == []
    (height,) = second.find("OBX[3.1=8302-2]-5")
    assert (height.value, height.where) == ("160", "OBX[2]-5")


def test_obr_without_orc_is_an_order_of_its_own():
    orders = message("OBR|1|A", "OBX|1|ST|X||a", "OBR|2|B").orders()
    assert [(o.orc, o.obr.field(2), o.shares_orc) for o in orders] == [(None, "A", False), (None, "B", False)]
    assert values(orders[0], "OBX-5") == ["a"]
    assert values(orders[1], "OBX-5") == []


def test_children_share_the_orc_of_their_parent():
    orders = message("ORC|PA|P", "TQ1|1", "OBR|1|C1", "NTE|1||a", "OBR|2|C2", "NTE|1||b").orders()
    assert [(values(o, "ORC-2"), values(o, "OBR-2"), values(o, "TQ1-1")) for o in orders] == [
        (["P"], ["C1"], ["1"]),
        (["P"], ["C2"], ["1"]),
    ]
    assert [values(o, "NTE-3")[0] for o in orders] == ["a", "b"]
    assert [o.shares_orc for o in orders] == [False, True]


def test_orc_without_obr_is_an_order():
    orders = message("ORC|CA|A", "ORC|CA|B").orders()
    assert [(values(o, "ORC-2"), o.obr) for o in orders] == [(["A"], None), (["B"], None)]


def test_hl7_0119_prior_results_are_no_orders():
    m = message(
        "ORC|NW|A",
        "OBR|1|A",
        "PID|1||4711^^^HIS||Muster^Max",
        "OBR|1|OLD1",
        "OBX|1|NM|8302-2||99",
        "ORC|PR|OLD2",
        "OBR|1|OLD2",
        "ORC|NW|B",
        "OBR|1|B",
        head=HEAD.replace("ORM^O01", "OMG^O19"),
    )
    assert [values(o, "OBR-2") for o in m.orders()] == [["A"], ["B"]]
    assert values(m.orders()[0], "OBX-5") == []


@pytest.mark.parametrize("second", ["PID|1||815^^^HIS||Testfrau^Erika", "PID|1||||Testfrau^Erika"])
def test_an_order_message_of_two_patients_is_refused(second):
    with pytest.raises(BadInput) as refused:
        message("ORC|NW|A", "OBR|1|A", second, "ORC|NW|B", "OBR|1|B")
    assert refused.value.where == "PID[2]"
    assert refused.value.code == 100
    assert "Testfrau" not in str(refused.value)


def test_a_merge_of_two_patients_is_no_order_message():
    assert message("PID|2||815", head=HEAD.replace("ORM^O01", "ADT^A40")).orders() == []
