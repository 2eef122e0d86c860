"""Bad input, each with its own clear answer, and the service unharmed: an honest order goes through behind it."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from bridge.cli import root
from bridge.errors import CannotListen, SettingsError, StoreRefused
from bridge.sandbox import dicom_sender
from bridge.sandbox.peer import PeerError
from bridge.settings import host_port
from tests.acceptance.scene import House, OpenHouse, order


async def raw(it: House, data: bytes, *, end: bool = False) -> bytes:
    """What comes back for bytes as they are, until an answer is whole or the connection is closed."""
    reader, writer = await asyncio.open_connection(*host_port(it.up.addresses["hl7"]))
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        received = b""
        async with asyncio.timeout(20):
            while not received.endswith(b"\x1c\r"):
                part = await reader.read(65536)
                if not part:
                    break
                received += part
    except ConnectionError:
        return b""
    else:
        return received
    finally:
        writer.close()


async def unharmed(it: House) -> None:
    """An honest order still gets its task."""
    assert "MSA|AA|HONEST|task=" in await it.hl7(order("HONEST", "PL-HONEST"))


async def test_what_is_not_mllp_is_closed(house: OpenHouse) -> None:
    async with house() as it:
        assert await raw(it, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 2000) == b""
        await unharmed(it)


async def test_a_frame_without_msh_is_ar_with_100_and_an_empty_msa_2(house: OpenHouse) -> None:
    async with house() as it:
        answer = await raw(it, b"\x0bPID|1||4711\r\x1c\r")
        assert b"\rMSA|AR||" in answer
        assert b"100" in answer
        await unharmed(it)


async def test_an_unknown_type_is_ar_200_and_an_unknown_trigger_ar_201(house: OpenHouse) -> None:
    async with house() as it:
        assert "200^Unsupported message type" in await it.hl7("MSH|^~\\&|A|B|||20260301||MDM^T02|X1|P|2.5\r")
        assert "201^Unsupported event code" in await it.hl7("MSH|^~\\&|A|B|||20260301||ADT^A60|X2|P|2.5\r")
        await unharmed(it)


async def test_no_pid_3_is_ae_101_at_pid_3_and_never_a_task(house: OpenHouse) -> None:
    async with house() as it:
        answer = await it.hl7(order().replace("4711^^^TEST^MR", ""))
        assert "MSA|AE|C1" in answer
        assert "PID^1^3^101" in answer
        assert not it.sandbox.tasks
        await unharmed(it)


async def test_an_impossible_birth_date_is_left_out_with_a_warning(house: OpenHouse) -> None:
    async with house() as it:
        assert "MSA|AA" in await it.hl7(order().replace("19700131", "19700231"))
        assert "patient_birth_date" not in it.sandbox.tasks[4711].request
        shown = await it.show("1")
        assert any("PID-7" in w for w in shown["understood"]["warnings"])


async def test_an_11_mb_frame_is_ar_and_nothing_of_it_is_kept(house: OpenHouse) -> None:
    async with house() as it:
        answer = await raw(it, b"\x0b" + order().encode() + b"NTE|1||" + b"x" * 11_000_000 + b"\x1c\r")
        assert b"MSA|AR|" in answer
        assert await it.messages() == []
        await unharmed(it)


async def test_an_acknowledgement_is_noted_and_never_answered(house: OpenHouse) -> None:
    async with house() as it:
        ack = b"MSH|^~\\&|A|B|||20260301||ACK^O01|X1|P|2.5\rMSA|AA|C1\r"
        assert await raw(it, b"\x0b" + ack + b"\x1c\r", end=True) == b""
        rows = await it.settled(1)
        assert (rows[0].state, rows[0].reason) == ("DONE", "acknowledgement")


async def test_a_ct_image_is_not_negotiated(house: OpenHouse, tmp_path: Path) -> None:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    async with house() as it:
        with pytest.raises(PeerError):
            await it.store(tmp_path / "ct.dcm")
        assert await it.messages() == []
        await unharmed(it)


async def test_c_echo_is_0000_and_a_wrong_called_title_is_rejected(house: OpenHouse) -> None:
    async with house(BRIDGE_DICOM__CALLING_AE_TITLES='["CART1"]') as it:
        host, port = host_port(it.up.addresses["dicom"])
        assert await asyncio.to_thread(dicom_sender.echo, host, port, calling="CART1") == 0
        with pytest.raises(PeerError, match="rejected"):
            await asyncio.to_thread(dicom_sender.echo, host, port, calling="STRANGER")
        with pytest.raises(PeerError, match="rejected"):
            await asyncio.to_thread(dicom_sender.echo, host, port, calling="CART1", called="OTHER")


async def test_a_wrong_token_is_no_storm_and_loses_nothing(house: OpenHouse) -> None:
    async with house(BRIDGE_CARDIO__TOKEN="wrong", BRIDGE_HL7__REPLY_BUDGET="5") as it:
        answers = [await it.hl7(order(f"C{n}", f"PL-{n}")) for n in range(5)]
        assert all("accepted, task pending" in a for a in answers)
        assert sum(e["call"] == "tasks" for e in it.sandbox.journal) == 1
    async with house(sandbox=it.sandbox) as it:
        rows = await it.settled(5)
        assert [r.state for r in rows] == ["CREATED"] * 5


async def test_a_port_in_use_names_the_setting_and_the_way_out(house: OpenHouse) -> None:
    async with house() as it:
        for name in ("hl7", "dicom", "console"):
            with pytest.raises(CannotListen, match=rf"{name}.listen: cannot listen on .*choose another"):
                async with house(
                    **{
                        f"BRIDGE_{name.upper()}__LISTEN": it.up.addresses[name],
                        "BRIDGE_STORE__URL": f"sqlite:///{it.folder}/other.db",
                    }
                ):
                    pass
        await unharmed(it)


async def test_an_unwritable_store_names_the_setting_and_the_way_out(house: OpenHouse, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreRefused, match=r"store.url: .* cannot be written.*The folder must belong"):
        async with house(BRIDGE_STORE__URL=f"sqlite:///{tmp_path}/file/bridge.db"):
            pass


async def test_no_room_is_ar_207_and_a_refused_association(house: OpenHouse) -> None:
    async with house(BRIDGE_STORE__MIN_FREE="900 TiB") as it:
        answer = await it.hl7(order())
        assert "MSA|AR|C1|no room" in answer
        assert "207" in answer
        host, port = host_port(it.up.addresses["dicom"])
        path = Path("sample_messages/03_ecg_for_order.dcm")
        with pytest.raises(PeerError, match="rejected"):
            await asyncio.to_thread(dicom_sender.store, host, port, [path])
        assert await asyncio.to_thread(dicom_sender.echo, host, port) == 0, "an echo needs no room"
        assert await it.messages() == []


async def test_a_mapping_file_with_a_typo_names_file_key_and_nearest_name(house: OpenHouse, tmp_path: Path) -> None:
    rules = tmp_path / "mapping.toml"
    rules.write_text('[fields.investigation_idd]\nhl7 = ["OBR-19.1"]\n')
    with pytest.raises(SettingsError, match=r"mapping.toml: .*investigation_idd.*did you mean investigation_id"):
        async with house(BRIDGE_MAPPING__FILE=str(rules)):
            pass


def test_commands_name_file_and_way_out_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "bad.toml").write_text("[hl7]\nlistn = 1\n")
    run = CliRunner().invoke
    for command, words in (
        (["convert", str(tmp_path / "empty.dcm"), str(tmp_path / "o.zip")], "empty.dcm"),
        (["check", "--config", str(tmp_path / "bad.toml")], "did you mean listen"),
        (["messages", "list", "--config", str(tmp_path / "none.toml")], "none.toml"),
    ):
        result = run(root, command)
        assert result.exit_code != 0, command
        assert words in result.output + str(result.exception), command


async def test_health_and_readiness(house: OpenHouse) -> None:
    async def get(it: House, path: str) -> bytes:
        address = it.up.addresses["console"]
        reader, writer = await asyncio.open_connection(*host_port(address))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    async with house() as it:
        await it.hl7(order())
        assert b" 200 " in await get(it, "/healthz")
        assert b" 200 " in await get(it, "/readyz")
        page = await get(it, "/")
        assert b"created" in page
        assert b"Muster" not in page
    async with house(BRIDGE_STORE__MIN_FREE="900 TiB") as it:
        assert b" 503 " in await get(it, "/readyz")
