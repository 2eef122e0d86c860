"""The `[store]` table: which engine, where, and what this host keeps beside it."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from bridge.errors import SettingsError
from bridge.setting_kinds import Section, Size, is_loopback

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"
_S3 = "s3://"
_BUCKET = re.compile(r"s3://(?P<name>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9_.-]+)*)/?")


class BucketName(NamedTuple):
    """A bucket, and what the keys of ours in it begin with: empty, or with a stroke at its end."""

    name: str
    prefix: str


def _place(value: Path | str) -> Path | str:
    if not isinstance(value, str) or not value.startswith(_S3):
        return Path(value)
    if not _BUCKET.fullmatch(value):
        raise ValueError("a bucket is s3://NAME or s3://NAME/PREFIX; a name has 3 to 63 of a-z, 0-9, dot and dash")
    return value


class StoreSettings(Section):
    url: str = "sqlite:///var/bridge.db"  # or postgresql+psycopg://user@host/database
    password_file: Path | None = None  # of PostgreSQL's user, so that it stands in no URL
    folder: Path | None = None  # what one process keeps of its own on PostgreSQL; on SQLite that is the database's
    payloads: Annotated[str | Path, AfterValidator(_place)] = Path("var/payloads")  # or s3://bucket/prefix
    s3_endpoint: str = ""  # of a bucket that is not at AWS, such as https://s3.example.org:9000
    s3_region: str = ""
    s3_key_file: Path | None = None  # two lines, the key's id and its secret; none: what AWS gives to the host
    s3_ca_file: Path | None = None
    min_free: Size = 5 * 2**30
    ballast: Size = 64 * 2**20
    epoch_file: Path | None = None  # none: beside the database; better on a disk that its backups do not bring back
    lease: Annotated[float, Field(ge=2)] = 120.0  # seconds that a silent process keeps its work, on PostgreSQL
    prepare: bool = True  # statements prepared at the server; false behind a pooler that cannot keep them
    poll: Annotated[float, Field(gt=0, le=10)] = 1.0  # seconds between two looks at what other processes wrote

    @model_validator(mode="after")
    def _engine_is_known(self) -> Self:
        if not self.url.startswith((_SQLITE, _POSTGRESQL)):
            raise ValueError(f"url: begins with {_SQLITE} and a path, or with {_POSTGRESQL}user@host/database")
        if self.is_sqlite and (self.folder or self.password_file):
            raise ValueError("folder and password_file are for PostgreSQL; SQLite's folder is its database's")
        return self

    @model_validator(mode="after")
    def _bucket_is_whole(self) -> Self:
        if self.bucket is None:
            if named := [key for key in self.model_fields_set if key.startswith("s3_") and getattr(self, key)]:
                raise ValueError(f"{', '.join(sorted(named))}: only where payloads begins with s3://")
            return self
        scheme, _, rest = self.s3_endpoint.partition("://")
        if self.s3_endpoint and (scheme not in {"http", "https"} or not rest):
            raise ValueError("s3_endpoint: an address that begins with https://")
        if scheme == "http" and not is_loopback(rest):
            raise ValueError("s3_endpoint: http:// is taken for loopback only; patient data needs https://")
        if not self.s3_endpoint and not self.s3_region:
            raise ValueError("a bucket needs s3_region, or s3_endpoint where it is not at AWS")
        return self

    @property
    def bucket(self) -> BucketName | None:
        """The bucket of payloads; None where they are in a folder."""
        found = _BUCKET.fullmatch(self.payloads) if isinstance(self.payloads, str) else None
        return BucketName(found["name"], f"{found['prefix']}/".removeprefix("/")) if found else None

    @property
    def payload_folder(self) -> Path:
        """This host's folder of payloads: of all of them, or of those on their way to a bucket and back."""
        return self.payloads if isinstance(self.payloads, Path) else self.beside("payloads")

    def read_s3_key(self) -> tuple[str, str] | None:
        """The key's id and its secret; None where no file is set. Raises SettingsError where it cannot be used."""
        if self.s3_key_file is None:
            return None
        try:
            lines = self.s3_key_file.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError) as cause:
            said = cause.strerror if isinstance(cause, OSError) else "it is no plain text"
            raise SettingsError(f"store.s3_key_file: {self.s3_key_file} cannot be read: {said}") from cause
        if len(lines) != 2:
            raise SettingsError(f"store.s3_key_file: {self.s3_key_file} has two lines: the key's id, and its secret")
        return lines[0], lines[1]

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is the embedded one, of one process."""
        return self.url.startswith(_SQLITE)

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded store. Raises SettingsError where the store is PostgreSQL."""
        if not self.is_sqlite:
            raise SettingsError("store.url: this is for a store on SQLite; the one that it names is on PostgreSQL")
        return Path(self.url.removeprefix(_SQLITE))

    @property
    def own_folder(self) -> Path:
        """Where the process keeps what is its own: the SQLite database's folder, or `folder`."""
        return self.sqlite_path.parent if self.is_sqlite else self.folder or Path("var")

    def beside(self, name: str) -> Path:
        """A file in it."""
        return self.own_folder / name

    @property
    def stem(self) -> str:
        """What the names of such files begin with where they are named after the database."""
        return self.sqlite_path.stem if self.is_sqlite else "bridge"
