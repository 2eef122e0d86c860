"""The `[store]` table: which engine, where, and what this host keeps beside it."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from bridge.errors import SettingsError
from bridge.setting_kinds import Section, Size

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"


class StoreSettings(Section):
    url: str = "sqlite:///var/bridge.db"  # or postgresql+psycopg://user@host/database
    password_file: Path | None = None  # of PostgreSQL's user, so that it stands in no URL
    folder: Path | None = None  # what one process keeps of its own on PostgreSQL; on SQLite that is the database's
    payloads: Path = Path("var/payloads")
    min_free: Size = 5 * 2**30
    ballast: Size = 64 * 2**20
    epoch_file: Path | None = None  # none: beside the database; better on a disk that its backups do not bring back
    lease: Annotated[float, Field(ge=2)] = 120.0  # seconds that a silent process keeps its work, on PostgreSQL
    poll: Annotated[float, Field(gt=0, le=10)] = 1.0  # seconds between two looks at what other processes wrote

    @model_validator(mode="after")
    def _engine_is_known(self) -> Self:
        if not self.url.startswith((_SQLITE, _POSTGRESQL)):
            raise ValueError(f"url: begins with {_SQLITE} and a path, or with {_POSTGRESQL}user@host/database")
        if self.is_sqlite and (self.folder or self.password_file):
            raise ValueError("folder and password_file are for PostgreSQL; SQLite's folder is its database's")
        return self

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

    def beside(self, name: str) -> Path:
        """A file that the process keeps of its own: beside the SQLite database, or in `folder`."""
        if self.is_sqlite:
            return self.sqlite_path.with_name(name)
        return (self.folder or Path("var")) / name

    @property
    def stem(self) -> str:
        """What the names of such files begin with where they are named after the database."""
        return self.sqlite_path.stem if self.is_sqlite else "bridge"
