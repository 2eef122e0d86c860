"""The page that tells what a message would become: as `bridge map` has it, and without a trace."""

import asyncio
import html
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from bridge.cli import root
from bridge.console import brought
from bridge.console.pages.mapping import places_of
from bridge.rehearsal import apart
from bridge.store.schema import metadata
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.trying import page_of, told, tried
from tests.interface.situations import always_the_same

pytestmark = pytest.mark.timeout(400)  # each dry run starts an interpreter

SAMPLES = {p.name: p.read_bytes() for p in sorted(Path("sample_messages").iterdir()) if p.suffix in {".hl7", ".dcm"}}
OWN_WILL = {"alarm", "notice"}
"""Tables that the service itself writes to now and then."""


def mapped(it: House, *names: str) -> list[dict[str, Any]]:
    """What the command prints for them."""
    (it.folder / "empty.toml").write_text("")
    files = [f"sample_messages/{name}" for name in names]
    how = ["--json", "--calling", "CART1", "--config", str(it.folder / "empty.toml")]
    ran = CliRunner().invoke(root, ["map", *how, *files], env=it.environment)
    assert ran.exit_code == 0, ran.output
    return [{**one, "file": Path(one["file"]).name} for one in json.loads(ran.output)]


def alike(results: list[dict[str, Any]]) -> Any:
    return json.loads(always_the_same(json.dumps(results)))


def counted(conn: sa.Connection) -> dict[str, int]:
    return {
        table.name: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
        if table.name not in OWN_WILL
    }


async def test_every_sample_gets_on_the_page_exactly_what_map_prints(house: OpenHouse) -> None:
    async with house() as it:
        for at in range(0, len(SAMPLES), brought.MANY):
            files = list(SAMPLES.items())[at : at + brought.MANY]
            answer = await tried(it, files, calling="CART1")
            assert alike(told(answer)) == alike(await asyncio.to_thread(mapped, it, *(name for name, _ in files)))


async def test_a_pasted_order_and_its_ecg_find_each_other_and_each_field_says_where_it_comes_from(
    house: OpenHouse,
) -> None:
    message, ecg = "02_orm_o01_order.hl7", "03_ecg_for_order.dcm"
    async with house() as it:
        pasted = "\x0b" + SAMPLES[message].decode().replace("\r", "\r\n") + "\x1c\r\n"
        answer = await tried(it, [(ecg, SAMPLES[ecg])], message=pasted, calling="CART1")
        shown = told(answer)
        assert alike(shown)[0]["file"] == "the pasted message"
        for mine, theirs in zip(alike(shown), alike(await asyncio.to_thread(mapped, it, message, ecg)), strict=True):
            assert {**mine, "file": ""} == {**theirs, "file": ""}
        text = html.unescape(re.sub(r"<[^>]*>", "", answer.text))
        for one in shown:
            for trace in one["tasks"][0]["traces"]:
                assert trace["where"] in text
                assert trace["rule"] in text
        assert "draft=4711" in str(shown[1]["tasks"][0]["task"]["searching_tags"])
        assert shown[0]["answer"].split("\r")[1] in text


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (("4711^^^TEST^MR", ""), "PID-3"),
        (("|P|2.3.1", "|T|2.3.1"), "MSH-11"),
        (("|P|2.3.1", "|T|2.5.1"), "MSH-11"),
        (("ORM^O01", "XXX^Y01"), "MSH-9"),
    ],
)
async def test_what_is_refused_names_its_place(house: OpenHouse, change: tuple[str, str], place: str) -> None:
    async with house() as it:
        answer = await tried(it, [], message=order().replace(*change))
        (one,) = told(answer)
        assert one["state"] == "REJECTED"
        assert [where for where, _, _ in places_of(one)] == [place]
        assert f"<code>{place}</code>" in answer.text


async def test_a_listener_s_own_rules_and_an_ae_title_s_are_tried(house: OpenHouse, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('[fields.device_id]\nconstant = "LAB"\n')
    (tmp_path / "site.toml").write_text('[ae_titles.CART9.fields.device_id]\nconstant = "CART NINE"\n')
    listeners = f'[{{name = "lab", listen = "127.0.0.1:0", mapping = "{tmp_path}/lab.toml"}}]'
    site = f"{tmp_path}/site.toml"
    async with house(BRIDGE_HL7__LISTENERS=listeners, BRIDGE_MAPPING__FILE=site) as it:
        files = [("ecg.dcm", SAMPLES["14_ecg_without_order.dcm"])]
        message, recording = told(await tried(it, files, message=order(), listener="hl7.lab", calling="CART9"))
        assert message["tasks"][0]["task"]["device_id"] == "LAB"
        assert recording["tasks"][0]["task"]["device_id"] == "CART NINE"
        async with page_of(it) as browser:
            page = (await browser.get("/mapping")).text
        assert f"{tmp_path}/lab.toml:2" in page
        assert "CART9" in page
        assert (await tried(it, [], message=order(), listener="hl7.other")).status_code == 422


async def test_nothing_of_it_stays_in_store_log_or_folder(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    async with house() as it:
        before = await it.up.store.read(counted)
        payloads = sorted(p for p in it.folder.rglob("*") if p.is_file() and temporary not in p.parents)
        ecg = SAMPLES["03_ecg_for_order.dcm"]
        name = "ZZCANARY^Max"
        answer = await tried(it, [("ZZCANARY.dcm", ecg), ("ZZCANARY.hl7", order(name=name).encode())],
                             message=order(name=name, number="ZZCANARY"), calling="ZZCANARY")  # fmt: skip
        assert "ZZCANARY" in answer.text
        assert answer.headers["cache-control"] == "no-store"
        failed = await tried(it, [("ZZCANARY", b"ZZCANARY")], listener="ZZCANARY")
        assert failed.status_code == 422
        assert "ZZCANARY" not in failed.text
        assert await it.up.store.read(counted) == before
        assert sorted(p for p in it.folder.rglob("*") if p.is_file() and temporary not in p.parents) == payloads
    said = capfd.readouterr()
    assert "ZZCANARY" not in said.out + said.err
    assert not list(temporary.iterdir())


async def test_markup_in_what_was_brought_is_text_on_the_page(house: OpenHouse) -> None:
    markup = "<script>alert(1)</script>"
    message = order(name=f'{markup}^"><img src=x>').replace("HIS|TEST", "HIS|<b>")
    async with house() as it:
        files = [(f"{markup}.hl7", message.encode())]
        answer = await tried(it, files, message=f"{message}NTE|1||</textarea>{markup}\r", calling='<i>&"')
        assert told(answer)[0]["tasks"][0]["task"]["patient_last_name"] == markup
        for raw in (markup, "<img", "<b>", "<i>", "</textarea>&"):
            assert raw not in answer.text
        assert answer.text.count("</textarea>") == 1


async def test_files_of_a_form_have_no_name_while_they_are_read(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = apart.rehearse

    async def looked_at(given: Any, *args: Any, **more: Any) -> Any:
        seen.extend(os.fstat(one.file).st_nlink for one in given)
        return await real(given, *args, **more)

    monkeypatch.setattr("bridge.console.pages.mapping.rehearse", looked_at)
    async with house() as it:
        await tried(it, [("x.hl7", order().encode())], message=order())
    assert seen == [0, 0]
