"""A bridge with a listener for each rule of answering, for the tables of cases."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bridge.app import running
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.settings import load
from tests.acceptance.receiver import acknowledge, receiving
from tests.acceptance.scene import on_loopback
from tests.acceptance.talk import Talk

STRICT = (
    '{bad_value = "AE", unknown_code = "AE", unknown_version = "AR", unsupported_event = "AA", missing_field = "AR"}'
)
LENIENT = '{unknown_order = "AA", unsupported_type = "AA", refused_patient = "AA"}'
LISTENERS = (
    ("auto", 'ack_mode = "auto"', True),
    ("bare", 'ack_mode = "auto"', False),
    ("enhanced", 'ack_mode = "enhanced"', True),
    ("ack", 'order_response = "ack"', False),
    ("strict", f"codes = {STRICT}", False),
    ("lenient", f"codes = {LENIENT}", False),
    ("test", 'processing_ids = ["T", "D"]', False),
    ("filter", 'order_filter = ["93000", "EC"]', False),
)


def _listeners(address: str) -> str:
    made = []
    for name, rule, returns in LISTENERS:
        to = f', return_address = "{address}"' if returns else ""
        made.append(f'{{name = "{name}", listen = "127.0.0.1:0", {rule}{to}}}')
    return f"[{', '.join(made)}]"


@contextlib.asynccontextmanager
async def talking(folder: Path, **environment: str) -> AsyncIterator[Talk]:
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    async with contextlib.AsyncExitStack() as stack:
        his = await stack.enter_async_context(receiving(lambda message, _: acknowledge(message, "CA")))
        sock = open_socket("127.0.0.1", 0, setting="sandbox")
        address = await stack.enter_async_context(serving(api.application(), sock))
        values = {
            **on_loopback(folder),
            "BRIDGE_SITE__TIME_ZONE": "Europe/Berlin",
            "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
            "BRIDGE_HL7__LISTENERS": _listeners(his.address),
            "BRIDGE_HL7__SENDERS": '{"OSLO|*" = {time_zone = "Europe/Oslo", order_response = "ack"}}',
            "BRIDGE_CARDIO__BASE_URL": f"http://{address}",
            "BRIDGE_CARDIO__ORGANIZATION_PATH": "test-hospital",
            "BRIDGE_CARDIO__TOKEN": "test-token",
            **environment,
        }
        up = await stack.enter_async_context(running(load(None, values)))
        yield Talk(up, api, his)
