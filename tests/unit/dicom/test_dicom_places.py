"""F1, F3: connections that ask for nothing are counted apart, and the ones that crowd others out go first."""

from bridge.receive.dicom.places import OUTSIDE, OUTSIDE_OF_PEER, PER_PEER, Places
from bridge.settings import DicomSettings

CART, LOCAL = "10.0.0.9", "127.0.0.1"


class Waiting:
    """Connections and who of them was let go."""

    def __init__(self, **settings: int) -> None:
        self.places = Places(DicomSettings(**settings))  # type: ignore[arg-type]
        self.gone: list[int] = []

    def arrive(self, peer: str) -> int:
        ticket: list[int] = []
        ticket.append(self.places.wait_outside(peer, lambda: self.gone.append(ticket[0])))
        return ticket[0]


def test_f1_one_address_is_held_to_its_own_number() -> None:
    crowd = Waiting()
    first = crowd.arrive(CART)
    for _ in range(OUTSIDE_OF_PEER):
        crowd.arrive(CART)
    assert crowd.gone == [first]


def test_f1_few_addresses_crowd_themselves_out_and_nobody_else() -> None:
    crowd = Waiting()
    honest = crowd.arrive(CART)
    for number in range(10 * OUTSIDE):
        crowd.arrive(f"10.1.0.{number % 5}")
    assert honest not in crowd.gone
    assert len(crowd.gone) == 10 * OUTSIDE + 1 - OUTSIDE
    assert crowd.places.come_in(honest, CART)


def test_f1_loopback_has_no_number_of_its_own_and_the_common_one_holds() -> None:
    crowd = Waiting()
    for _ in range(OUTSIDE):
        crowd.arrive(LOCAL)
    assert crowd.gone == []
    crowd.arrive(LOCAL)
    assert len(crowd.gone) == 1


def test_f1_who_was_let_go_comes_in_no_more() -> None:
    crowd = Waiting()
    first = crowd.arrive(CART)
    for _ in range(OUTSIDE_OF_PEER):
        crowd.arrive(CART)
    assert not crowd.places.come_in(first, CART)
    assert crowd.places.associations == 0


def test_associations_are_counted_by_address_and_given_back_once() -> None:
    crowd = Waiting(max_associations=PER_PEER + 2)
    tickets = [crowd.arrive(CART) for _ in range(PER_PEER + 1)]
    assert [crowd.places.come_in(t, CART) for t in tickets] == [True] * PER_PEER + [False]
    local = [crowd.arrive(LOCAL) for _ in range(3)]
    assert [crowd.places.come_in(t, LOCAL) for t in local] == [True, True, False]
    for _ in range(2):
        crowd.places.go_out(tickets[0], CART, lambda: None)
        crowd.places.leave(tickets[1])
    assert crowd.places.associations == PER_PEER
