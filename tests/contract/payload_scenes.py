"""The places of payloads that the contract is tried on, and what stands between the bridge and its bucket."""

import contextlib
import http.client
import itertools
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from bridge.store.payloads import OLD, Payloads, payloads_for
from bridge.store_settings import StoreSettings

KINDS = ("folder alone", "folder shared", "bucket")
BUCKET = "recordings"
_KEY = ("INVENTEDKEYID", "invented/secret+of0a0key")
_numbers = itertools.count(1)


@contextlib.contextmanager
def service() -> Iterator[str]:
    """A service that speaks S3, with one bucket; its address."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        client(f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        server._server.server_close()


def client(endpoint: str) -> Any:
    """A client of the test's own."""
    key = {"aws_access_key_id": _KEY[0], "aws_secret_access_key": _KEY[1]}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **key)


@dataclass
class Scene:
    """A place, and as many processes as a test wants that keep their payloads there."""

    kind: str
    folder: Path
    endpoint: str = ""
    prefix: str = field(default_factory=lambda: f"ward-{next(_numbers)}/")

    @property
    def is_bucket(self) -> bool:
        return self.kind == "bucket"

    @property
    def is_alone(self) -> bool:
        return self.kind == "folder alone"

    @property
    def settings(self) -> StoreSettings:
        """Those of one more process."""
        own = self.folder / f"process-{next(_numbers)}"
        url = f"sqlite:///{own}/bridge.db" if self.is_alone else "postgresql+psycopg://bridge@localhost/bridge"
        values: dict[str, Any] = {"url": url, "payloads": self.folder / "payloads", "min_free": 0}
        if not self.is_alone:
            values["folder"] = own
        if self.is_bucket:
            file = self.folder / "s3-key"
            file.write_text("\n".join(_KEY), encoding="ascii")
            values |= {"payloads": f"s3://{BUCKET}/{self.prefix}", "s3_endpoint": self.endpoint, "s3_key_file": file}
        return StoreSettings(**values)

    def process(self) -> Payloads:
        """What one process has."""
        payloads = payloads_for(self.settings)
        payloads.open()
        return payloads

    def names(self) -> list[str]:
        """Everything that has a payload's name, seen from outside."""
        if self.is_bucket:
            found = client(self.endpoint).list_objects_v2(Bucket=BUCKET, Prefix=self.prefix).get("Contents", [])
            return [one["Key"].removeprefix(self.prefix) for one in found if one["Key"].endswith(".dcm")]
        root = self.folder / "payloads"
        return [str(p.relative_to(root)) for p in root.glob("??/*.dcm")]

    def put(self, name: str, content: bytes) -> None:
        """Behind the bridge's back."""
        if self.is_bucket:
            client(self.endpoint).put_object(Bucket=BUCKET, Key=f"{self.prefix}{name}", Body=content)
            return
        (self.folder / "payloads" / name).write_bytes(content)

    def take_away(self, name: str) -> None:
        """Behind the bridge's back."""
        if self.is_bucket:
            client(self.endpoint).delete_object(Bucket=BUCKET, Key=f"{self.prefix}{name}")
            return
        (self.folder / "payloads" / name).unlink()


def keep(payloads: Payloads, content: bytes) -> str:
    """Its name, kept and let go of."""
    file = payloads.incoming()
    file.write(content)
    name, _ = file.keep()
    file.close()
    return name


def read(payloads: Payloads, name: str) -> bytes:
    """What is kept under a name."""
    with payloads.at_hand(name) as path:
        return path.read_bytes()


def make_old(payloads: Payloads) -> None:
    """Everything in a spool is as if it had been there for longer than anybody needs it."""
    before = time.time() - 2 * OLD
    for file in payloads.spool.iterdir():
        os.utime(file, (before, before))


Fault = Callable[["Handler"], None]


class Between:
    """Stands between a client and the service: passes everything on, but for what it was told of."""

    def __init__(self, endpoint: str, tls: ssl.SSLContext | None = None) -> None:
        self.service = endpoint.removeprefix("http://")
        self.faults: list[tuple[str, Fault]] = []
        self.heard: list[str] = []
        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"between": self}))
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}"

    def at(self, method: str, *faults: Fault) -> None:
        """What becomes of the next requests by this method."""
        self.faults += [(method, one) for one in faults]

    def fault(self, method: str) -> Fault | None:
        """The one that is due."""
        self.heard.append(method)
        found = next((one for one in self.faults if one[0] == method), None)
        if found is None:
            return None
        self.faults.remove(found)
        return found[1]


@contextlib.contextmanager
def between(endpoint: str, tls: ssl.SSLContext | None = None) -> Iterator[Between]:
    """In front of a service, for as long as the context is open."""
    made = Between(endpoint, tls)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        made.server.shutdown()
        thread.join()
        made.server.server_close()


class Handler(BaseHTTPRequestHandler):
    between: Between
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def _any(self) -> None:
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.between.fault(self.command)
        if fault is not None:
            fault(self)
        else:
            self.tell(*self.passed_on())

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815  http.server names them

    def passed_on(self) -> tuple[int, dict[str, str], bytes]:
        """The service's own answer."""
        line = http.client.HTTPConnection(self.between.service)
        hop = {"expect", "connection", "host"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in hop}
        try:
            line.request(self.command, self.path, self.content, headers)
            answer = line.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            line.close()

    def tell(self, status: int, headers: dict[str, str], content: bytes, *, most: int | None = None) -> None:
        """Answer, with no more of the content than that."""
        self.send_response_only(status)
        kept = {k: v for k, v in headers.items() if k.lower() not in {"connection", "content-length"}}
        length = headers.get("Content-Length") or headers.get("content-length") or str(len(content))
        for key, value in {**kept, "Content-Length": length, "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content[:most])
        self.close_connection = True


def refused(status: int, code: str) -> Fault:
    """An error of the service's, before it did anything."""
    text = f"<Error><Code>{code}</Code><Message>invented</Message></Error>".encode()
    return lambda at: at.tell(status, {"Content-Type": "application/xml"}, b"" if at.command == "HEAD" else text)


def cut(at: Handler) -> None:
    """Half of the body, then the end of the connection."""
    status, headers, content = at.passed_on()
    at.tell(status, headers, content, most=len(content) // 2)


def lost(at: Handler) -> None:
    """It took, and its answer does not come."""
    at.passed_on()
    at.close_connection = True


def dropped(at: Handler) -> None:
    """It did not take, and no answer comes."""
    at.close_connection = True


def silent(at: Handler) -> None:
    """No answer, and the connection stays, until the test is over."""
    at.between.over.wait(60)
    at.close_connection = True


def garbled(status: int, content: bytes = b"<Not<xml") -> Fault:
    """No XML where some is due, or other XML."""
    return lambda at: at.tell(status, {"Content-Type": "application/xml"}, content)


def untold(at: Handler) -> None:
    """A service that knows no checksums."""
    status, headers, content = at.passed_on()
    at.tell(status, {k: v for k, v in headers.items() if "checksum" not in k.lower()}, content)
