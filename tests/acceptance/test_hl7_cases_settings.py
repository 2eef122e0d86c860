"""The table of cases, third part: what a site sets for itself, for a listener, for a sender (hl7.md §3.2, §4.2, §6)."""

from pathlib import Path

import pytest

from tests.acceptance.talk import Said, Talk, order, pid
from tests.acceptance.talking import talking


async def merge(talk: Talk, gone: str, stays: str, authority: str = "TEST", event: str = "A40") -> Said:
    who = f"PID|1||{stays}^^^{authority}^MR||Muster^Max||19700131|M"
    return await talk.say(f"ADT^{event}", f"EVN|{event}", who, f"MRG|{gone}^^^{authority}^MR")


async def patient_of_an_order_under(talk: Talk, identifier: str) -> str:
    said = await talk.say("ORM^O01", pid(identifier), *order("NW", talk.new()[1]))
    task = talk.sandbox.tasks[int(said.get("ORC", 3).split("^")[0])].request
    return str(task["patient_id"])


# --- patients (§4.2) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "code", "stays"), [("refuse", "AE", "B"), ("ignore", "AA", "B"), ("accept", "AA", "A")]
)
async def test_f34_the_inverse_of_an_earlier_merge_is_by_policy(
    tmp_path: Path, policy: str, code: str, stays: str
) -> None:
    async with talking(tmp_path, BRIDGE_PATIENTS__INVERSE_MERGE=policy) as talk:
        assert (await merge(talk, "A", "B")).code == "AA"
        assert await patient_of_an_order_under(talk, "A") == "B"
        said = await merge(talk, "B", "A")
        assert (said.code, said.error[0]) == (code, "205" if code == "AE" else "")
        assert [await patient_of_an_order_under(talk, one) for one in ("A", "B")] == [stays, stays]


async def test_f34_only_identifiers_of_a_trusted_authority_are_merged(tmp_path: Path) -> None:
    async with talking(tmp_path, BRIDGE_PATIENTS__TRUSTED_AUTHORITIES='["TEST"]') as talk:
        said = await merge(talk, "A", "B", "ELSEWHERE")
        assert (said.code, said.error) == ("AE", ("101", "PID^1^3", "E"))
        both = "PID|1||B^^^ELSEWHERE^PI~B2^^^TEST^MR||Muster^Max"
        said = await talk.say("ADT^A40", "EVN|A40", both, "MRG|A^^^ELSEWHERE^PI~A2^^^TEST^MR")
        assert said.code == "AA"
        assert await patient_of_an_order_under(talk, "A2") == "B2"
        elsewhere = pid("A").replace("TEST", "ELSEWHERE")
        order_of_a = await talk.say("ORM^O01", elsewhere, *order("NW", talk.new()[1]))
        assert talk.sandbox.tasks[int(order_of_a.get("ORC", 3).split("^")[0])].request["patient_id"] == "A"


@pytest.mark.parametrize(
    ("setting", "event", "code", "state"),
    [
        ({"BRIDGE_PATIENTS__MOVES": "refuse"}, "A43", "AE", "REJECTED"),
        ({"BRIDGE_PATIENTS__DELETES": "inactive"}, "A29", "AA", "DONE"),
        ({"BRIDGE_PATIENTS__DELETES": "inactive"}, "A23", "AA", "DONE"),
    ],
)
async def test_hl7_4_2_moves_and_deletions_are_as_the_site_says(
    tmp_path: Path, setting: dict[str, str], event: str, code: str, state: str
) -> None:
    async with talking(tmp_path, **setting) as talk:
        said = await talk.say(f"ADT^{event}", f"EVN|{event}", pid("A"), "MRG|B^^^TEST^MR")
        assert (said.code, said.error[:2]) == (code, ("207", "EVN^1^1") if code == "AE" else ("", ""))
        assert (await talk.row(said.control_id)).state == state


@pytest.mark.parametrize(("wanted", "after"), [("true", "CA"), ("false", "SC")])
@pytest.mark.parametrize("event", ["A11", "A27", "A38"])
async def test_hl7_4_2_a_cancelled_visit_cancels_its_orders_where_the_site_wants_it(
    tmp_path: Path, event: str, wanted: str, after: str
) -> None:
    own = {"BRIDGE_ORDERS__CREATE": "on_recording", "BRIDGE_ORDERS__CANCEL_WITH_VISIT": wanted}
    visit = "PV1|1|O|WARD||||||||||||||||V"
    async with talking(tmp_path, **own) as talk:
        await talk.say("ORM^O01", pid("A"), visit + "1", *order("NW", "PL-A"))
        await talk.say("ORM^O01", pid("A"), visit + "2", *order("NW", "PL-B"))
        assert (await talk.say(f"ADT^{event}", f"EVN|{event}", pid("A"), visit + "1")).code == "AA"
        status = [await talk.say("ORM^O01", pid("A"), *order("SS", number)) for number in ("PL-A", "PL-B")]
        assert [one.get("ORC", 5) for one in status] == [after, "SC"]


# --- orders (§4.1) ---------------------------------------------------------------------------------------------------


async def test_hl7_4_1_a_change_of_an_unknown_order_is_refused_where_the_site_wants_it(tmp_path: Path) -> None:
    async with talking(tmp_path, BRIDGE_ORDERS__UNKNOWN_CHANGE="refuse") as talk:
        said = await talk.say("ORM^O01", pid("A"), *order("XO", "PL-A"))
        assert (said.code, said.error, said.get("ORC", 1)) == ("AE", ("204", "ORC^1^2", "E"), "UX")
        assert talk.sandbox.tasks == {}


# --- senders and listeners (§3.2, §6) --------------------------------------------------------------------------------


async def test_hl7_3_2_codes_of_one_sender(tmp_path: Path) -> None:
    async with talking(tmp_path, BRIDGE_HL7__SENDERS='{"HIS|NORTH" = {codes = {unknown_order = "AR"}}}') as talk:
        for sender, code in (("HIS|NORTH", "AR"), ("HIS|SOUTH", "AE")):
            said = await talk.say("ORM^O01", pid("A"), *order("HD", "PL-A"), sender=sender)
            assert (said.code, said.get("ORC", 1)) == (code, "UH")


@pytest.mark.parametrize(("sender", "answer"), [("LONDON|A", "OK"), ("HIS|A", "OC")])
async def test_hl7_6_a_time_without_offset_is_of_the_senders_zone(tmp_path: Path, sender: str, answer: str) -> None:
    """12:30 in London is after 12:00 UTC; in Berlin, where the site is, it is 11:30 UTC."""
    async with talking(tmp_path, BRIDGE_HL7__SENDERS='{"LONDON|*" = {time_zone = "Europe/London"}}') as talk:
        await talk.say("ORM^O01", pid("A"), *order("CA", "PL-A"), msh_7="20260301120000+0000")
        said = await talk.say("ORM^O01", pid("A"), *order("NW", "PL-A"), msh_7="20260301123000", sender=sender)
        assert (said.code, said.get("ORC", 1)) == ("AA", answer)


@pytest.mark.parametrize(("sender", "name"), [("EAST", "Łącki"), ("HIS", "£±cki")])
async def test_hl7_6_text_that_declares_nothing_is_of_the_senders_code_page(
    tmp_path: Path, sender: str, name: str
) -> None:
    async with talking(tmp_path, BRIDGE_HL7__SENDERS='{"EAST|*" = {fallback_charset = "iso8859-2"}}') as talk:
        head = f"MSH|^~\\&|{sender}|A|CARDIO|BRIDGE|20260301||ORM^O01|1|P|2.5.1"
        text = "\r".join([head, pid("A", "Łącki^Max"), *order("NW", "PL-A"), ""])
        assert b"|AA|" in await talk.raw(text.encode("iso8859-2"))
        (task,) = talk.sandbox.tasks.values()
        assert task.request["patient_last_name"] == name


async def test_hl7_6_a_listener_has_rules_of_its_own(tmp_path: Path) -> None:
    rules = tmp_path / "north.toml"
    rules.write_text('[fields.investigation_id]\nhl7 = ["ORC-2.1"]\n')
    listener = f'[{{name = "north", listen = "127.0.0.1:0", mapping = "{rules}"}}]'
    async with talking(tmp_path, BRIDGE_HL7__LISTENERS=listener) as talk:
        for name, number in (("hl7", "ACCPL-A"), ("hl7.north", "PL-B")):
            said = await talk.say("ORM^O01", pid("A"), *order("NW", number.removeprefix("ACC")), listener=name)
            task = talk.sandbox.tasks[int(said.get("ORC", 3).split("^")[0])].request
            assert task["investigation_id"] == number
