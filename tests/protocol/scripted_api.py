"""A Cardio API that does what a script says, byte by byte, and a client for it."""

import asyncio
import contextlib
import gc
import socket
import struct

from bridge.dispatch.cardio.client import CardioClient

BODY = b'{"patient_id":"T1","patient_last_name":"Testfrau"}'
CREATED = b'{"created_task_ids":[4711]}'


def answer(status=201, body=CREATED, *headers):
    lines = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def request_of(reader):
    """One request: request line, headers, body."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def says(*replies):
    """Answers the requests of a connection, one reply each; then waits for the other side to close."""

    async def script(reader, writer, seen):
        for reply in replies:
            seen.append(await request_of(reader))
            writer.write(reply)
        await reader.read()

    return script


def cuts(reply=b""):
    """Reads a request, says so much, and closes."""

    async def script(reader, writer, seen):
        seen.append(await request_of(reader))
        writer.write(reply)

    return script


async def silent(reader, writer, seen):
    seen.append(await request_of(reader))
    await reader.read()


async def resets(reader, writer, seen):
    seen.append(await request_of(reader))
    await reset_at_once(reader, writer, seen)


async def reset_at_once(reader, writer, seen):
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def endless(status):
    async def script(reader, writer, seen):
        seen.append(await request_of(reader))
        writer.write(b"HTTP/1.1 %d X\r\n\r\n" % status)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    return script


@contextlib.asynccontextmanager
async def peer(*scripts, tls=None):
    """A listener whose n-th connection follows the n-th script (the last one repeats).

    Yields its port, the requests seen and the connections taken.
    """
    seen, connections, talking = [], [], set()

    async def talk(reader, writer):
        talking.add(asyncio.current_task())
        connections.append(writer)
        script = scripts[min(len(connections), len(scripts)) - 1]
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await script(reader, writer, seen)
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], seen, connections
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        await server.wait_closed()
        gc.collect()  # a connection left open would warn here, and a warning is an error


@contextlib.asynccontextmanager
async def client(port, **more):
    given = {"base_url": f"http://127.0.0.1:{port}", "organization_path": "clinic", "token": lambda: "secret"}
    made = CardioClient(**{"timeout": 5.0, **given, **more})
    try:
        yield made
    finally:
        await made.aclose()


async def create(*scripts, tls=None, **more):
    """One task POST to a scripted peer: its outcome, and the requests that arrived."""
    async with peer(*scripts, tls=tls) as (port, seen, _), client(port, **more) as api:
        return await api.create_tasks(BODY), seen


async def every_call(api):
    return [
        await api.create_tasks(BODY),
        await api.open_upload(3, bytes(32)),
        await api.send_chunk("u", 0, b"abc"),
        await api.task_status(1),
        await api.probe(),
    ]
