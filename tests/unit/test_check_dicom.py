"""`bridge check` on the DICOM side."""

from pathlib import Path

import pytest

from bridge.rehearsal.checks import of_dicom
from bridge.settings import DicomSettings


def told(**settings: object) -> list[tuple[str, str]]:
    return [(line.level, line.text) for line in of_dicom(DicomSettings(**settings))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({}, "warning", "calling_ae_titles is empty"),
        ({"listen": "0.0.0.0:0", "insecure_plaintext": True}, "warning", "allow is empty"),
        ({"tls": {"certificate": "none.pem", "key": "none.key"}}, "error", "dicom.tls: the certificate"),
        (
            {"peers": {"CART": {"address": "127.0.0.1:1", "tls": {"ca": "none.pem"}}}},
            "error",
            "dicom.peers: tls: the certificate",
        ),
    ],
)
def test_what_is_missing_is_said_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], level: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [text for said, text in told(**settings) if said == level and words in text]


def test_a_guarded_listener_has_nothing_to_be_said_of_it() -> None:
    assert told(calling_ae_titles=("CART",)) == []
