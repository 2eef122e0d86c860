"""A copy of a database on PostgreSQL, by its own programs: pg_dump reads all of it in one snapshot, beside services.

It is put back in one transaction, which ends with the mark of a quarantine and its own COMMIT. Where the copy is
damaged, or whoever puts it back ends early, that COMMIT is never said. Passwords are in the programs' environment,
never among their arguments.
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from bridge.errors import StoreError, StoreFull, StoreRefused
from bridge.store import migrate, postgres_facts
from bridge.store.backup import RESTORED, whole
from bridge.store.marks import QUARANTINE
from bridge.store.postgres_engine import listening
from bridge.store.postgres_facts import told

_FOLDERS = "/usr/lib/postgresql/*/bin"
"""Where Debian has the programs of each version (postgresql-common, pg_wrapper(1))."""
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_BLOCK = 1 << 20
_SECRET = frozenset({"password", "sslpassword"})
_NO_ROOM = "No space left on device"
_PIPE, _NULL = subprocess.PIPE, subprocess.DEVNULL
_BEGIN = b"BEGIN;\n"
_END = (
    "INSERT INTO public.mark (name, value) SELECT 'NAME', "
    "json_build_object('reason', 'REASON', 'since', NULL, 'upto', coalesce(max(id), 0))::text "
    "FROM public.message ON CONFLICT (name) DO UPDATE SET value = excluded.value;\n"
    "SELECT format('ANALYZE public.%I', tablename) FROM pg_tables WHERE schemaname = 'public' \\gexec\n"
    "COMMIT;\n"
)
"""ANALYZE as PostgreSQL asks for behind a restore: else a first prune goes through whole tables again and again."""
_REVISION = "SELECT version_num FROM public.alembic_version"


def dump(address: sa.URL, target: Path) -> int:
    """As `backup.copy`: a whole copy in pg_dump's own format, or none. Returns its size in bytes."""
    with told(), listening(address) as conn:
        version = conn.info.server_version // 10_000
    program = _program("pg_dump", version)
    with whole(target) as growing:
        command = [program, "--format=custom", "--no-owner", "--no-privileges", "--no-password", f"--file={growing}"]
        done = subprocess.run(  # noqa: S603  PostgreSQL's own program, with words of our own
            [*command, f"--dbname={_named(address)}"],
            env=_environment(address), stdin=_NULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise _failed("pg_dump", done.stderr)
    return target.stat().st_size


def put_back(address: sa.URL, source: Path) -> str:
    """A copy in an empty database, in quarantine, at the schema that it had. Returns that.

    Raises StoreRefused where the database is not empty, and StoreError; then the database is as empty as it was.
    """
    if not source.is_file():
        raise StoreRefused(f"{source} is not there")
    with told(), listening(address) as conn:
        version = conn.info.server_version // 10_000
        postgres_facts.require_empty(conn)
    reading = [_program("pg_restore", version), "--no-owner", "--no-privileges", "--exit-on-error", "--file=-"]
    # Errors as their codes alone: PostgreSQL's words repeat the value that they are about.
    writing = [_program("psql", version), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]
    writing += ["--set=VERBOSITY=sqlstate", "--output=/dev/null", f"--dbname={_named(address)}", "--file=-"]
    _piped([*reading, str(source)], writing, _environment(address))
    with told(), listening(address) as conn:
        row: Any = conn.execute(_REVISION).fetchone()
    migrate.require_known(row[0])
    return str(row[0])


def _piped(reading: list[str], writing: list[str], environment: dict[str, str]) -> None:
    """What the one says goes to the other, which hears the COMMIT only where the first one ended well."""
    with (
        subprocess.Popen(reading, env=environment, stdin=_NULL, stdout=_PIPE, stderr=_PIPE) as reader,  # noqa: S603  PostgreSQL's own
        subprocess.Popen(writing, env=environment, stdin=_PIPE, stdout=_NULL, stderr=_PIPE) as writer,  # noqa: S603  as above
    ):
        try:
            heard = _pump(_of(reader.stdout), _of(writer.stdin))
            ended = reader.wait() if heard else 0
            heard = heard and not ended and _said(_of(writer.stdin), _end())
            problem = "" if ended else _of(writer.stderr).read().decode(errors="replace")
            failed = bool(ended) or not heard or writer.wait() != 0
        finally:  # neither goes on without the other, nor without us
            reader.kill()
            writer.kill()
            with contextlib.suppress(BrokenPipeError):
                _of(writer.stdin).close()
        if ended:
            raise _failed("pg_restore", _of(reader.stderr).read().decode(errors="replace"))
        if failed:
            raise _failed("psql", problem)


def _end() -> bytes:
    """The mark, and the COMMIT of the whole."""
    return _END.replace("NAME", QUARANTINE).replace("REASON", RESTORED).encode()


def _of(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("a pipe was asked for")
    return stream


def _pump(source: IO[bytes], sink: IO[bytes]) -> bool:
    """Everything, inside a transaction. False where the sink went away underway."""
    try:
        sink.write(_BEGIN)
        while block := source.read(_BLOCK):
            sink.write(block)
        sink.flush()
    except BrokenPipeError:
        return False
    return True


def _said(sink: IO[bytes], last: bytes) -> bool:
    """The last words. False where nobody heard them."""
    try:
        sink.write(last)
        sink.close()
    except BrokenPipeError:
        return False
    return True


def _failed(program: str, words: str) -> StoreError:
    lines = [line for line in words.splitlines() if "error" in line.lower()] or words.splitlines()[-1:]
    kind = StoreFull if _NO_ROOM in words else StoreError
    return kind(f"store.url: {' '.join(lines[:1]) or program + ' ended without a word'}")


def _program(name: str, version: int) -> str:
    """One of PostgreSQL's client programs that knows this server. Raises StoreRefused with the way out."""
    found = [p for p in (shutil.which(name), *sorted(glob.glob(f"{_FOLDERS}/{name}"), reverse=True)) if p]  # noqa: PTH207  a pattern over folders
    newest = 0
    for program in found:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603  as above
        told = _VERSION.search(done.stdout)
        if told and int(told[1]) >= version:
            return program
        newest = max(newest, int(told[1]) if told else 0)
    what = f"{name} {newest} is older than the server" if newest else f"{name} is not installed here"
    raise StoreRefused(f"store.url: {what}; install PostgreSQL's client programs, {version} or newer")


def _named(address: sa.URL) -> str:
    """Where the database is, without the password."""
    _, words = address.get_dialect()().create_connect_args(address)
    return make_conninfo(**{key: value for key, value in words.items() if key not in _SECRET})


def _environment(address: sa.URL) -> dict[str, str]:
    """What the programs are told besides; libpq also reads PGPASSFILE of it."""
    password = address.password or address.query.get("password")
    return {**os.environ, "LC_MESSAGES": "C", **({"PGPASSWORD": str(password)} if password else {})}
