"""Certificates for tests, made by the openssl program."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


def openssl() -> str:
    """The program. Under CI=true a missing one is a failure, never a skip."""
    found = shutil.which("openssl")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("openssl is not installed here")
        pytest.skip("openssl is not installed here")
    return found


@dataclass(frozen=True)
class Authority:
    """An authority of a test's own, and what it signed."""

    folder: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @classmethod
    def make(cls, folder: Path, name: str = "authority") -> "Authority":
        """A new authority."""
        made = cls(folder, name)
        key = folder / f"{name}.key"
        run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", key,
            "-out", made.certificate, "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip
        return made

    def sign(self, name: str, *, into: Path | None = None) -> tuple[Path, Path]:
        """Certificate and key of a peer on 127.0.0.1."""
        folder = into or self.folder
        certificate, key, request = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.csr"
        run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        run("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / f"{self.name}.key",
            "-CAcreateserial", "-days", "2", "-out", certificate, "-extfile", extensions)  # fmt: skip
        return certificate, key


def run(*arguments: object) -> None:
    """One run of openssl."""
    subprocess.run([openssl(), *map(str, arguments)], check=True, capture_output=True)
