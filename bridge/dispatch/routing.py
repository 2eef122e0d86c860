"""Where a message goes: decided once, when it is understood, and kept with it (failures.md F42).

A start with other settings finds the route of what is under way in its row, and leaves it as it is.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.dispatch.understand import Understood
from bridge.domain.task import Mapped
from bridge.errors import SettingsError
from bridge.formats.hl7.reader import Message
from bridge.mapping.rules import Part, Rules
from bridge.settings import Settings

NO_ROUTE = "no_route"
ROUTES_DIFFER = "routes_differ"
"""Reasons of a HELD message that goes nowhere: no route fits it, or its orders go to several destinations."""


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a message goes. `name` is empty where it is held, for `reason`; `detail` names no patient."""

    name: str
    reason: str = ""
    detail: Mapping[str, Any] | None = None


class Routing:
    """The routes of the settings, in the order of the file."""

    def __init__(self, settings: Settings) -> None:
        cardio = settings.cardio
        self._routes = [
            (name, route.model_dump(exclude_none=True)) for name, one in cardio.all().items() for route in one.routes
        ]
        self._otherwise = cardio.name if cardio.unrouted == "first" else ""
        self._dicom = settings.dicom.ae_title

    def of_orders(self, listener: str, message: Message, mapped: Iterable[Mapped]) -> Routed:
        """Of a message with these orders, whose task is due: one message goes to one destination."""
        if not self._routes and self._otherwise:
            return Routed(self._otherwise)
        header = message.header
        facts = {
            "listener": listener,
            "receiving_application": header.receiving_application,
            "receiving_facility": header.receiving_facility,
            "sender": f"{header.sending_application}|{header.sending_facility}",
        }
        routed = [self._first({**facts, "mapped": said}) for said in dict.fromkeys(one.destination for one in mapped)]
        if not routed:
            return Routed("", NO_ROUTE)
        if len({one.name for one in routed}) == 1:
            return routed[0]
        told = [one.name or NO_ROUTE for one in routed]
        return Routed("", ROUTES_DIFFER, {"orders": told})

    def of_recording(self, listener: str, calling_ae_title: str, mapped: Mapped) -> Routed:
        """Of a recording."""
        door, _, called = listener.partition(".")
        return self._first(
            {
                "listener": door,
                "calling_ae_title": calling_ae_title,
                "called_ae_title": called or self._dicom,
                "mapped": mapped.destination,
            }
        )

    def of(self, listener: str, sender: str, understood: Understood, message: Message | None) -> Routed:
        """Of whatever was understood; of a message every order that may become a task counts."""
        if message is None:
            return self.of_recording(listener, sender, understood.recording or Mapped({}))
        orders = [o.mapped for o in understood.orders if o.refusal is None and not o.passed_over]
        return self.of_orders(listener, message, orders)

    def _first(self, facts: Mapping[str, str]) -> Routed:
        for name, named in self._routes:
            if all(_fits(key, value, facts.get(key, "")) for key, value in named.items()):
                return Routed(name, detail={"destination": name, "route": sorted(named)})
        if not self._otherwise:
            return Routed("", NO_ROUTE, {"known": sorted(key for key, value in facts.items() if value)})
        return Routed(self._otherwise)


def _fits(key: str, wanted: str, there: str) -> bool:
    if key != "sender":
        return wanted == there
    mine, theirs = wanted.partition("|"), there.partition("|")
    return "|" in there and all(mine[n] in {"*", theirs[n]} for n in (0, 2))


def check_routes(settings: Settings, rules: Mapping[str, Rules]) -> None:
    """Raises SettingsError where a route waits for what no rule says, or a rule says what no route knows."""
    wanted = {route.mapped: one.where for one in settings.cardio.all().values() for route in one.routes if route.mapped}
    parts = [part for one in rules.values() for part in _parts(one)]
    if wanted and not any(p.destination.constant or p.destination.hl7 or p.destination.dicom for p in parts):
        where = next(iter(wanted.values()))
        raise SettingsError(f"{where}.routes: mapped needs the rule [destination] in the site's mapping.file")
    for said in {part.destination.constant for part in parts if part.destination.constant}:
        if said not in wanted:
            near = difflib.get_close_matches(said, wanted, n=1)
            offer = f"did you mean {near[0]}?" if near else f'write routes = [{{ mapped = "{said}" }}] for one'
            raise SettingsError(f"mapping: destination: no route of cardio knows {said}; {offer}")


def _parts(rules: Rules) -> list[Part]:
    return [rules, *rules.senders.values(), *rules.ae_titles.values()]
