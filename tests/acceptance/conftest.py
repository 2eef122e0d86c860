"""The whole bridge on loopback, in the test's own loop, against the sandbox API."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.app import running
from bridge.clock import Clock
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.settings import load
from tests.acceptance.scene import House, OpenHouse, surroundings
from tests.acceptance.talk import Talk
from tests.acceptance.talking import talking


@pytest.fixture
def house(tmp_path: Path) -> OpenHouse:
    """A bridge to open with settings of the test's own. Opened again, it finds the same store."""

    @contextlib.asynccontextmanager
    async def opened(
        sandbox: Sandbox | None = None, base_url: str = "", clock: Clock | None = None, **environment: str
    ) -> AsyncIterator[House]:
        async with contextlib.AsyncExitStack() as stack:
            api = sandbox or Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
            if not base_url:
                sock = open_socket("127.0.0.1", 0, setting="sandbox")
                base_url = f"http://{await stack.enter_async_context(serving(api.application(), sock))}"
            own = {"BRIDGE_STORE__URL": f"sqlite:///{tmp_path}/bridge.db"}
            values = {**surroundings(tmp_path, base_url), **own, **environment}
            up = await stack.enter_async_context(running(load(None, values), clock))
            yield House(up, api, tmp_path, values)

    return opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    """A bridge that makes a draft of each order."""
    async with talking(tmp_path_factory.mktemp("drafts")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def waiting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    """A bridge whose orders wait for their recordings: nothing is sent of them."""
    async with talking(tmp_path_factory.mktemp("waiting"), BRIDGE_ORDERS__CREATE="on_recording") as made:
        yield made
