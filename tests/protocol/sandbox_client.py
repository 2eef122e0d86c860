"""A raw HTTP/1.1 client: it sees what no HTTP library shows, a connection that ends without a byte."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving

TOKEN = "test-token"
TASKS = "/v3/orgs/test-hospital/tasks"
OCTETS = "application/octet-stream"


@dataclass
class Got:
    """An answer; `raw` is every byte that came, `end` how the connection ended."""

    raw: bytes
    end: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Calls with a connection each."""

    sandbox: Sandbox
    address: str

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        kind: str = "application/json",
        token: str | None = TOKEN,
        patience: float = 5,
    ) -> Got:
        host, port = self.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        head = [f"{method} {path} HTTP/1.1", "Host: sandbox", "Connection: close", f"Content-Length: {len(body)}"]
        head += [f"Content-Type: {kind}"] if kind else []
        head += [f"X-Api-Token: {token}"] if token is not None else []
        raw, end = b"", "fin"
        try:
            writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)
            async with asyncio.timeout(patience):
                while part := await reader.read(65536):
                    raw += part
        except TimeoutError:
            end = "silent"
        except ConnectionError:
            end = "reset"
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if b"\r\n\r\n" not in raw:
            return Got(raw, end)
        first, *lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Got(raw, end, int(first.split()[1]), headers, raw.partition(b"\r\n\r\n")[2])

    async def post(self, path: str, body: Any, **options: Any) -> Got:
        return await self.call("POST", path, json.dumps(body).encode(), **options)

    async def get(self, path: str, **options: Any) -> Got:
        return await self.call("GET", path, kind="", **options)

    async def open(self, data: bytes, *, size: int | None = None, digest: bytes | None = None) -> str:
        declared = digest or hashlib.sha256(data).digest()
        body = {"total_size": len(data) if size is None else size, "hash_sum": base64.b64encode(declared).decode()}
        upload_id: str = (await self.post("/v3/uploads", body)).json["upload_id"]
        return upload_id

    async def chunk(self, upload_id: str, offset: object, data: bytes, **options: Any) -> Got:
        path = f"/v3/uploads/{upload_id}/chunks?offset={offset}"
        return await self.call("POST", path, data, **{"kind": OCTETS, **options})

    async def upload(self, data: bytes, step: int = 1 << 20) -> str:
        upload_id = await self.open(data)
        for offset in range(0, len(data), step):
            assert (await self.chunk(upload_id, offset, data[offset : offset + step])).status == 200
        return upload_id

    async def journal(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(f"/_sandbox/requests{query}", token=None)).json
        return found


@contextlib.asynccontextmanager
async def client(**options: Any) -> AsyncIterator[Client]:
    """A sandbox that serves, and a client of it."""
    sandbox = Sandbox(token=TOKEN, organization="test-hospital", **options)
    async with serving(sandbox.application(), open_socket("127.0.0.1", 0, setting="test")) as address:
        yield Client(sandbox, address)
        sandbox.hang_up()
    sandbox.close()


class Noticed(dict[int, Any]):
    """Tasks that tell when one is there: `sandbox.tasks = Noticed()`."""

    def __init__(self) -> None:
        super().__init__()
        self.there = asyncio.Event()

    def __setitem__(self, task_id: int, task: Any) -> None:
        super().__setitem__(task_id, task)
        self.there.set()


def record(*names: str) -> bytes:
    """An archive with a WFDB record of four samples for each name; the same bytes at any time."""
    with io.BytesIO() as made:
        with zipfile.ZipFile(made, "w") as archive:
            for name in names:
                header = f"{name} 1 500 4\n{name}.dat 16 1000(0)/mV 16 0 1 10 0 II\n"
                archive.writestr(zipfile.ZipInfo(f"{name}.hea"), header)
                archive.writestr(zipfile.ZipInfo(f"{name}.dat"), b"\1\0\2\0\3\0\4\0")
        return made.getvalue()
