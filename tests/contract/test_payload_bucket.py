"""A bucket whose service fails: what is said, what is kept, and that an unknown outcome does no harm (A1, A3)."""

import logging
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import SettingsError, StoreError, StoreFull
from bridge.rehearsal import checks
from bridge.settings import Settings
from bridge.store import payload_bucket
from bridge.store.payload_place import Damaged
from bridge.store.payloads import Payloads, payloads_for
from bridge.store_settings import StoreSettings
from tests.authority import Authority
from tests.contract.payload_scenes import (
    BUCKET,
    Between,
    Fault,
    Scene,
    between,
    client,
    cut,
    dropped,
    garbled,
    keep,
    lost,
    read,
    refused,
    service,
    silent,
    untold,
)
from tests.ports import free_port

_SLOW_DOWN = refused(503, "SlowDown")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with service() as address:
        yield address


@pytest.fixture
def way(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    monkeypatch.setattr(payload_bucket, "TRIES", 2)
    with between(endpoint) as made:
        yield made


@pytest.fixture
def scene(way: Between, tmp_path: Path) -> Scene:
    return Scene("bucket", tmp_path, way.endpoint)


@pytest.fixture
def payloads(scene: Scene) -> Payloads:
    return scene.process()


_EACH_TRY = {
    "refuses": (refused(500, "InternalError"), "refused: 500 InternalError"),
    "is-busy": (_SLOW_DOWN, "refused: 503 SlowDown"),
    "forbids": (refused(403, "AccessDenied"), "refused: 403 AccessDenied"),
    "got-other-bytes": (refused(400, "BadDigest"), "refused: 400 BadDigest"),
    "hangs-up": (dropped, "does not answer: ConnectionClosedError"),
}


@pytest.mark.parametrize(("fault", "said"), _EACH_TRY.values(), ids=_EACH_TRY)
def test_a1_a_service_that_does_not_take_it_has_kept_nothing(
    scene: Scene, payloads: Payloads, way: Between, fault: Fault, said: str
) -> None:
    way.at("PUT", fault, fault)
    file = payloads.incoming()
    file.write(b"ecg")
    with pytest.raises(StoreError, match=f"^the payload store {said}$"):
        file.keep()
    file.close(unsure=True, needless=lambda _: True)
    assert scene.names() == list(payloads.spool.iterdir()) == []
    way.faults.clear()  # what is a refusal for good was not tried again
    assert read(payloads, keep(payloads, b"ecg")) == b"ecg", "the resend, once it is well again"


def test_a1_a_service_that_says_nothing_is_not_waited_for_without_end(
    scene: Scene, way: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_bucket, "READ", 3.0)
    payloads = scene.process()
    way.at("PUT", silent, silent)
    file = payloads.incoming()
    file.write(b"ecg")
    with pytest.raises(StoreError, match=r"^the payload store does not answer: ReadTimeoutError$"):
        file.keep()
    file.close()
    assert scene.names() == list(payloads.spool.iterdir()) == []


@pytest.mark.parametrize("fault", [refused(500, "InternalError"), _SLOW_DOWN, dropped], ids=["500", "503", "dropped"])
def test_one_failure_is_not_told_to_anybody(payloads: Payloads, way: Between, fault: Fault) -> None:
    for method in ("HEAD", "PUT", "GET"):
        way.at(method, fault)
    assert read(payloads, keep(payloads, b"ecg")) == b"ecg"
    assert way.faults == []


def test_a3_an_answer_that_is_lost_each_time_is_looked_up_and_it_took(payloads: Payloads, way: Between) -> None:
    way.at("PUT", lost, lost)
    assert read(payloads, keep(payloads, b"ecg")) == b"ecg"
    assert way.faults == []


@pytest.mark.parametrize("number", [507, 400], ids=["insufficient-storage", "quota"])
def test_f24_a_service_without_room_is_full(payloads: Payloads, way: Between, number: int) -> None:
    fault = refused(number, "QuotaExceeded" if number == 400 else "AnyCode")
    way.at("PUT", fault, fault)
    file = payloads.incoming()
    file.write(b"ecg")
    with pytest.raises(StoreFull):
        file.keep()
    file.close()


def test_nothing_is_kept_before_it_was_looked_at(scene: Scene, payloads: Payloads, way: Between) -> None:
    """A 200 for bytes that are not there: only the look behind it tells."""
    way.at("PUT", lambda at: at.tell(200, {"ETag": '"00"'}, b""))
    file = payloads.incoming()
    file.write(b"ecg")
    with pytest.raises(StoreError, match="the payload store failed: it has other bytes than it got"):
        file.keep()
    file.close()
    assert scene.names() == []


def test_where_it_breaks_off_it_goes_on(payloads: Payloads, way: Between) -> None:
    content = os.urandom(3 << 20)
    name = keep(payloads, content)
    way.heard.clear()
    way.at("GET", cut)
    assert read(payloads, name) == content
    assert way.heard == ["GET", "GET"]


def test_what_breaks_off_each_time_is_no_payload(payloads: Payloads, way: Between) -> None:
    name = keep(payloads, os.urandom(3 << 20))
    way.at("GET", cut, cut)
    with pytest.raises(StoreError, match="the payload store broke off: "):
        read(payloads, name)
    assert list(payloads.spool.iterdir()) == []


def test_a_body_that_is_not_what_its_name_says_is_damaged(payloads: Payloads, way: Between) -> None:
    name = keep(payloads, b"ecg")
    way.at("GET", lambda at: at.tell(200, {}, b"egc"))
    with pytest.raises(Damaged):
        read(payloads, name)
    assert list(payloads.spool.iterdir()) == []


def test_a_service_that_tells_no_checksum_is_read_back(scene: Scene, payloads: Payloads, way: Between) -> None:
    way.at("HEAD", *[untold] * 4)
    name = keep(payloads, b"ecg")
    assert "GET" in way.heard[way.heard.index("PUT", 2) :]
    scene.put(name, b"egc")
    assert keep(payloads, b"ecg") == name
    assert read(payloads, name) == b"ecg", "it is put again: who tells nothing is not believed"


def test_an_answer_that_is_no_xml_is_no_answer(payloads: Payloads, way: Between) -> None:
    way.at("GET", garbled(200), garbled(200), garbled(400))
    with pytest.raises(StoreError, match="the payload store refused: 500 500"):  # the client takes it for one
        list(payloads.place.kept())
    with pytest.raises(StoreError, match="the payload store refused: 400 400"):
        list(payloads.place.kept())


@pytest.mark.parametrize("content", [b"<Not<xml", b"<Other/>", b""], ids=["no-xml", "other-xml", "nothing"])
def test_an_upload_without_a_name_is_none(payloads: Payloads, way: Between, content: bytes) -> None:
    way.at("POST", garbled(200, content), garbled(200, content))
    file = payloads.incoming()
    file.write(bytes(2 * payload_bucket.PART + 1))
    with pytest.raises(StoreError, match=r"^the payload store "):
        file.keep()
    file.close()
    assert list(payloads.spool.iterdir()) == []


def test_a_list_goes_on_over_its_pages(scene: Scene, payloads: Payloads, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {keep(payloads, bytes([number])) for number in range(5)}
    plain = payloads.place._client.list_objects_v2  # type: ignore[attr-defined]
    monkeypatch.setattr(payloads.place._client, "list_objects_v2", lambda **given: plain(**given, MaxKeys=2))  # type: ignore[attr-defined]
    assert {name for name, _ in payloads.place.kept()} == names


def test_what_is_long_goes_in_parts_and_comes_back(scene: Scene, payloads: Payloads, way: Between) -> None:
    content = os.urandom(2 * payload_bucket.PART + 1)
    way.heard.clear()
    name = keep(payloads, content)
    assert way.heard == ["HEAD", "POST", "PUT", "PUT", "PUT", "POST", "HEAD"]
    assert keep(payloads, content) == name
    assert way.heard[7:] == ["HEAD", "HEAD"], "it is known by the checksums of its parts, and seen again behind its row"
    assert read(payloads, name) == content


def test_parts_of_what_failed_are_ended(scene: Scene, payloads: Payloads, way: Between) -> None:
    """They would be paid for, and seen by nobody."""
    way.at("PUT", *[refused(403, "AccessDenied")] * 2)
    file = payloads.incoming()
    file.write(bytes(2 * payload_bucket.PART + 1))
    with pytest.raises(StoreError, match="403 AccessDenied"):
        file.keep()
    file.close()
    left = client(scene.endpoint).list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert [one for one in left if one["Key"].startswith(scene.prefix)] == []


def test_a_service_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    away = Scene("bucket", tmp_path, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        StoreError, match=r"^store.payloads: s3://recordings/ward-\d+ cannot be used: the payload store does not answer"
    ):
        away.process()


def test_the_check_says_whether_the_bucket_can_be_used(scene: Scene, way: Between) -> None:
    settings = Settings(store=scene.settings)
    (line,) = checks._bucket(settings)
    assert (line.level, line.what) == ("ok", "payloads")
    way.at("PUT", refused(403, "AccessDenied"))
    (line,) = checks._bucket(settings)
    assert line.level == "error"
    assert line.text.endswith("cannot be used: the payload store refused: 403 AccessDenied")
    assert list(checks._bucket(Settings())) == []


def test_a_bucket_that_is_not_there_is_said_at_the_start(endpoint: str, scene: Scene) -> None:
    settings = scene.settings.model_copy(update={"payloads": "s3://another"})
    with pytest.raises(StoreError, match=r"s3://another cannot be used: the payload store refused: 404 NoSuchBucket"):
        payloads_for(settings).open()


def test_without_its_client_it_is_said_what_to_install(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bridge.store.payload_bucket")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingsError, match=r"a bucket needs boto3: install .* cardio-bridge\[s3\]"):
        payloads_for(scene.settings)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_service_is_believed_where_its_certificate_is_trusted(endpoint: str, tmp_path: Path, trusted: bool) -> None:
    authority, other = Authority.make(tmp_path), Authority.make(tmp_path, "another")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.sign("service"))
    with between(endpoint, tls) as way:
        settings = Scene("bucket", tmp_path, way.endpoint).settings
        of = authority if trusted else other
        payloads = payloads_for(settings.model_copy(update={"s3_ca_file": of.certificate}))
        if trusted:
            payloads.open()
            assert read(payloads, keep(payloads, b"ecg")) == b"ecg"
        else:
            with pytest.raises(StoreError, match="the payload store does not answer: SSLError"):
                payloads.open()
            assert way.heard == []


def test_the_key_is_in_no_text(scene: Scene, way: Between, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    payloads = scene.process()
    way.at("PUT", *[refused(403, "InvalidAccessKeyId")] * 2)
    file = payloads.incoming()
    file.write(b"ecg")
    with pytest.raises(StoreError) as problem:
        file.keep()
    file.close()
    said = f"{problem.value}{caplog.text}{scene.settings!r}{payloads.place}"
    id_, secret = scene.settings.read_s3_key() or ("", "")
    assert secret
    assert id_ not in said
    assert secret not in said


@pytest.mark.parametrize("content", ["", "ONE", "ONE TWO THREE", "ONE\nÄ"], ids=["empty", "one", "three", "no-ascii"])
def test_a_key_file_that_is_none_is_named_without_its_content(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content, encoding="utf-8")
    settings = StoreSettings(payloads="s3://recordings", s3_region="eu-central-1", s3_key_file=file)
    with pytest.raises(SettingsError, match=r"store\.s3_key_file: ") as problem:
        settings.read_s3_key()
    assert "ONE" not in str(problem.value)


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate", encoding="ascii")
    settings = StoreSettings(payloads="s3://recordings", s3_region="eu-central-1", s3_ca_file=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match=r"store\.s3_ca_file: "):
        payloads_for(settings)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"payloads": "s3://UPPER"}, "a bucket is s3://NAME"),
        ({"payloads": "s3://b"}, "a bucket is s3://NAME"),
        ({"payloads": "s3://recordings/a b"}, "a bucket is s3://NAME"),
        ({"payloads": "s3://recordings"}, "a bucket needs s3_region, or s3_endpoint"),
        ({"payloads": "s3://recordings", "s3_endpoint": "http://s3.example.org"}, "patient data needs https://"),
        ({"payloads": "s3://recordings", "s3_endpoint": "s3.example.org"}, "begins with https://"),
        ({"payloads": "var/payloads", "s3_region": "eu-central-1"}, "s3_region: only where payloads begins with s3://"),
    ],
)
def test_settings_that_name_no_bucket_are_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StoreSettings(**values)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [("s3://recordings", ""), ("s3://recordings/", ""), ("s3://recordings/of/ward", "of/ward/"), ("s3://b-1/a/", "a/")],
)
def test_a_bucket_and_its_prefix_are_read_from_the_address(address: str, prefix: str) -> None:
    settings = StoreSettings(payloads=address, s3_region="eu-central-1")
    assert settings.bucket is not None
    assert settings.bucket.prefix == prefix
    assert StoreSettings(payloads="var/payloads").bucket is None


@pytest.mark.parametrize("payloads", ["s3://recordings/of/ward", "var/payloads"])
def test_settings_come_back_from_json_as_they_were(payloads: str) -> None:
    settings = StoreSettings(payloads=payloads, s3_region="eu-central-1" if payloads.startswith("s3") else "")
    assert StoreSettings.model_validate_json(settings.model_dump_json()) == settings
    assert isinstance(settings.payloads, Path) is (settings.bucket is None)
