"""Payloads in a bucket that speaks S3: AWS, MinIO, Ceph, Garage and such (Amazon S3 API Reference, 2006-03-01).

The service is told each content's SHA-256 and refuses what it got otherwise, and is asked what it has before anything
is called kept: its 200 alone says that an object is durable. Objects are named by their content, so that a request
whose outcome is not known does no harm: it is looked whether it took, and else the sender sends again.

What is asked of the service: PutObject and the multipart calls, HeadObject, GetObject, DeleteObject, ListObjectsV2 on
the keys below the prefix, read-after-write consistency (AWS since 2020), and, where a kill may leave parts of a long
object behind, a rule on the bucket that ends unfinished multipart uploads after a day.
"""

import base64
import contextlib
import errno
import hashlib
import os
import re
import ssl
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from bridge.errors import SettingsError, StoreError, StoreFull
from bridge.store.payload_place import NAMED, Damaged, Spooled, told
from bridge.store_settings import StoreSettings

log = structlog.get_logger()

CONNECT, READ = 5.0, 30.0
"""Seconds for a connection, and for each time that the service is waited for."""
TRIES = 3
PART = 16 << 20
"""Bytes of one part; what is longer than two goes in parts, one after the other, and one is in memory."""
_BLOCK = 1 << 20
_PROBE = "bridge-check"
_NO_ROOM = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_INSUFFICIENT_STORAGE = 507
_HOSTS = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
"""Where Debian and Red Hat have the host's authorities in one file."""


class Bucket:
    """A place whose payloads are objects of a bucket, with the same names below a prefix."""

    def __init__(self, settings: StoreSettings) -> None:
        """Raises SettingsError where the key or the certificates cannot be read."""
        if settings.bucket is None:
            raise SettingsError("store.payloads: names no bucket")
        self._bucket, self._prefix = settings.bucket
        self._client = _client(settings)

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def open(self) -> None:
        """Write a few bytes, look at them and read them. Raises StoreError that names the setting."""
        content = _PROBE.encode("ascii")
        try:
            with told(), _answered():
                self._client.put_object(
                    **self._key(_PROBE), Body=content, ChecksumAlgorithm="SHA256", ChecksumSHA256=_of(content)
                )
                tells = "ChecksumSHA256" in (self._head(_PROBE) or {})
                read = b"".join(self._blocks(_PROBE, 0))
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except StoreError as problem:
            raise StoreError(f"store.payloads: {self} cannot be used: {problem}") from problem
        if read != content:
            raise StoreError(f"store.payloads: {self} gives back other bytes than it got")
        if not tells:
            log.warning("payload.no_checksum")  # each object is read back: twice the traffic

    def take(self, whole: Spooled) -> bool:
        if self._is_right(whole, told_alone=True):
            return False
        try:
            self._put(whole)
        except StoreError:
            with contextlib.suppress(StoreError):
                if self._is_right(whole):  # it took, and its answer was lost
                    return True
            raise
        _require(self._is_right(whole), "it has other bytes than it got")
        return True

    def settle(self, name: str) -> None:
        """Nothing is left to do: the service answers once an object is durable."""

    def _put(self, whole: Spooled) -> None:
        with told(), _answered():
            if whole.size > 2 * PART:
                self._put_parts(whole)
                return
            with whole.path.open("rb") as body:
                self._client.put_object(
                    **self._key(whole.name),
                    Body=body,
                    ContentLength=whole.size,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=_full(whole),
                )

    def _put_parts(self, whole: Spooled) -> None:
        key = self._key(whole.name)
        upload = self._client.create_multipart_upload(**key, ChecksumAlgorithm="SHA256").get("UploadId", "")
        _require(bool(upload), "it begins no upload in parts")
        done: list[dict[str, Any]] = []
        digest = hashlib.sha256()
        try:
            for number, part in enumerate(_parts(whole), 1):
                digest.update(part)
                given = {"PartNumber": number, "ChecksumSHA256": _of(part)}
                sent = self._client.upload_part(**key, **given, UploadId=upload, Body=part, ChecksumAlgorithm="SHA256")
                done.append({**given, "ETag": sent.get("ETag", "")})
            _require(digest.hexdigest() == Path(whole.name).stem, "the spool has other bytes than came in")
            self._client.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": done})
        except BaseException:
            with contextlib.suppress(*_FAILURES):
                self._client.abort_multipart_upload(**key, UploadId=upload)
            raise

    def _is_right(self, whole: Spooled, *, told_alone: bool = False) -> bool:
        """Whether the service has this content. One that tells no checksum is read back, unless `told_alone`."""
        found = self._head(whole.name)
        if found is None or found.get("ContentLength") != whole.size:
            return False
        checksum = found.get("ChecksumSHA256")
        if checksum is not None:
            told_of = checksum.partition("-")[0]  # behind it stands the number of parts, which not every service tells
            return bool(told_of == _full(whole) or (whole.size > 2 * PART and told_of == _of_parts(whole)))
        if told_alone:
            return False
        try:
            self._read(whole.name, None)
        except OSError:
            return False
        return True

    def has(self, name: str) -> bool:
        return self._head(name) is not None

    def _head(self, name: str) -> dict[str, Any] | None:
        with _answered():
            try:
                return dict(self._client.head_object(**self._key(name), ChecksumMode="ENABLED"))
            except ClientError as problem:
                if _status(problem) == 404:
                    return None
                raise

    def where(self, name: str) -> None:
        """Nowhere on this host."""

    def copy(self, name: str, into: Path) -> None:
        with told():
            fd = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            self._read(name, file)

    def _read(self, name: str, into: IO[bytes] | None) -> None:
        """The whole object, block by block, proven by its name. Where it breaks off it goes on from there.

        Raises FileNotFoundError, Damaged, StoreError, and StoreFull where there is no room for it here.
        """
        digest = hashlib.sha256()
        size = 0
        for left in reversed(range(TRIES)):
            try:
                for block in self._blocks(name, size):
                    digest.update(block)
                    size += len(block)
                    if into is not None:
                        with told():
                            into.write(block)
                break
            except _BrokenOff:
                if not left:
                    raise
        if into is not None:
            with told():
                into.flush()
        if digest.hexdigest() != Path(name).stem:
            raise Damaged

    def _blocks(self, name: str, start: int) -> Iterator[bytes]:
        given = {"Range": f"bytes={start}-"} if start else {}
        with _answered():
            try:
                found = self._client.get_object(**self._key(name), **given)
            except ClientError as problem:
                if _status(problem) == 404:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from problem
                if start and _status(problem) == 416:  # it broke off behind its last byte
                    return
                raise
        with contextlib.closing(found["Body"]) as body:
            while True:
                try:
                    block = body.read(_BLOCK)
                except (*_FAILURES, HTTPError, OSError) as cause:
                    raise _BrokenOff(f"the payload store broke off: {type(cause).__name__}") from cause
                if not block:
                    return
                yield block

    def remove(self, name: str) -> bool:
        """In a bucket with versions it is hidden, and each version stays until a rule of the bucket ends it."""
        there = self.has(name)
        if there:
            with _answered():
                self._client.delete_object(**self._key(name))
        return there

    def kept(self) -> Iterator[tuple[str, float]]:
        more: dict[str, str] = {}
        while True:
            with _answered():
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **more)
            now = page["ResponseMetadata"]["HTTPHeaders"].get("date", "")
            for one in page.get("Contents", ()):
                name = one["Key"].removeprefix(self._prefix)
                if NAMED.fullmatch(name):
                    yield name, _age(one["LastModified"], now)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page.get("NextContinuationToken", "")}
            _require(bool(more["ContinuationToken"]), "its list does not go on")

    def _key(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}


class _BrokenOff(StoreError):
    """An answer began and did not come to its end."""


_FAILURES = (BotoCoreError, ClientError, ResponseParserError)


def _client(settings: StoreSettings) -> Any:
    """A client that trusts nobody's environment for addresses and proxies, and whose calls all come to an end."""
    key = settings.read_s3_key()
    config = Config(
        connect_timeout=CONNECT,
        read_timeout=READ,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
        signature_version="s3v4",
        proxies={},
        ignore_configured_endpoint_urls=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=32,
        tcp_keepalive=True,
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=key[0] if key else None,
            aws_secret_access_key=key[1] if key else None,
            region_name=settings.s3_region or "us-east-1",  # a service of one's own has a name for it, or none
        )
        return session.client("s3", endpoint_url=settings.s3_endpoint or None, verify=_trusted(settings), config=config)
    except (BotoCoreError, ValueError) as cause:
        raise SettingsError(f"store.s3_endpoint, store.s3_region: no client can be made: {cause}") from cause


def _trusted(settings: StoreSettings) -> str | bool:
    """The file of authorities: the settings', else the host's, where that is one file, else botocore's own."""
    file = settings.s3_ca_file
    if file is not None:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as cause:  # also ssl.SSLError: a file without a certificate
            raise SettingsError(f"store.s3_ca_file: {file} cannot be used: {cause}") from cause
        return str(file)
    own = ssl.get_default_verify_paths().cafile
    return next((str(one) for one in (*([Path(own)] if own else []), *_HOSTS) if one.is_file()), True)


def _require(right: bool, otherwise: str) -> None:
    if not right:
        raise StoreError(f"the payload store failed: {otherwise}")


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """The client's errors in the store's words. What a service says beyond its code stays in the cause."""
    try:
        yield
    except ClientError as cause:
        code = re.sub(r"[^A-Za-z0-9]", "", str(cause.response.get("Error", {}).get("Code", "")))[:40]
        if code in _NO_ROOM or _status(cause) == _INSUFFICIENT_STORAGE:
            raise StoreFull("the payload store is full") from cause
        raise StoreError(f"the payload store refused: {_status(cause)} {code}") from cause
    except (BotoCoreError, ResponseParserError) as cause:
        raise StoreError(f"the payload store does not answer: {type(cause).__name__}") from cause


def _status(problem: ClientError) -> int:
    return int(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _age(since: datetime, date: str) -> float:
    """Seconds, by the service's own clock; 0 where it does not tell the time: then nothing is old."""
    try:
        return (parsedate_to_datetime(date) - since).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _parts(whole: Spooled) -> Iterator[bytes]:
    with whole.path.open("rb") as file:
        while part := file.read(PART):
            yield part


def _of(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")


def _full(whole: Spooled) -> str:
    return base64.b64encode(bytes.fromhex(Path(whole.name).stem)).decode("ascii")


def _of_parts(whole: Spooled) -> str:
    """What is told of an object in parts: the checksum of the parts' checksums."""
    return _of(b"".join(hashlib.sha256(part).digest() for part in _parts(whole)))
