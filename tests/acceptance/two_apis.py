"""A second organization of the API beside the first one, and messages that go there."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.store.listing import Row
from tests.acceptance import scene
from tests.acceptance.scene import House


@dataclass
class Api:
    """An API that is up."""

    sandbox: Sandbox
    url: str

    @property
    def numbers(self) -> list[str]:
        """The orders that it has tasks of."""
        return [task.request.get("investigation_id", "") for task in self.sandbox.tasks.values()]

    def calls(self, call: str = "tasks") -> list[dict[str, Any]]:
        """What it was asked, oldest first."""
        return self.sandbox.journal.select(call)


@contextlib.asynccontextmanager
async def api(
    organization: str = "north-hospital", *, token: str = "north-token", sandbox: Sandbox | None = None
) -> AsyncIterator[Api]:
    """One more API."""
    made = sandbox or Sandbox(token=token, organization=organization, first_task_id=9001)
    sock = open_socket("127.0.0.1", 0, setting="sandbox")
    async with serving(made.application(), sock) as address:
        yield Api(made, f"http://{address}")


def beside(*more: Api, routes: Sequence[dict[str, str]] = (), **values: Any) -> dict[str, str]:
    """The settings that add them to the first destination, each named by its organization, `north` of north-hospital.

    Where no routes are given, the receiving facility NORTH and the cart NORTHCART lead there.
    """
    tables = []
    for one in more:
        name = one.sandbox.organization.partition("-")[0]
        own = [{"receiving_facility": name.upper()}, {"calling_ae_title": f"{name.upper()}CART"}]
        table = {
            "name": name,
            "base_url": one.url,
            "organization_path": one.sandbox.organization,
            "token": one.sandbox.token,
            "routes": list(routes) or own,
            **values,
        }
        if "token_file" in values:
            del table["token"]
        tables.append(_toml(table))
    return {"BRIDGE_CARDIO__DESTINATIONS": f"[{', '.join(tables)}]"}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def to_north(control_id: str = "N1", number: str = "PL-N1", **values: str) -> str:
    """An order whose receiving facility is NORTH."""
    return scene.order(control_id, number, **values).replace("|CARDIO|BRIDGE|", "|CARDIO|NORTH|")


def stands(control_id: str, state: str, reason: str | None = None) -> Callable[[list[Row]], bool]:
    """The message is in that state, for that reason where one is given."""

    def look(rows: list[Row]) -> bool:
        return any(row.control_id == control_id and row.state == state and reason in {None, row.reason} for row in rows)

    return look


async def destination_row(it: House, name: str) -> tuple[bool, str]:
    """Whether it is known to be down, and why."""
    query = f"SELECT down, reason FROM destination WHERE name = '{name}'"
    row = await it.up.store.read(lambda conn: conn.exec_driver_sql(query).one())
    return bool(row.down), str(row.reason)


async def goes_to(it: House) -> list[str]:
    """The destination in each message's row, oldest first."""
    query = "SELECT destination FROM message ORDER BY id"
    rows = await it.up.store.read(lambda conn: conn.exec_driver_sql(query).all())
    return [row.destination for row in rows]
