import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from bridge.formats.dicom.leads import LEADS, lead_name, unique_names
from bridge.formats.dicom.reader import read_object
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines


def cid_3001() -> dict[int, str]:
    """PS3.16 CID 3001 as pydicom ships it: number and meaning."""
    listed = (concepts["MDC"][name] for name in cid_concepts[3001]["MDC"])
    return {int(code.split(":")[1]): meaning for one in listed for code, (meaning, _) in one.items()}


def test_ps3_16_cid_3001_every_plain_lead_has_its_name():
    meanings = cid_3001()
    plain = {n: m.removeprefix("Lead ").split(",")[0] for n, m in meanings.items() if m.startswith(("Lead ", "aV"))}
    plain = {n: name.removesuffix(" (Nehb - Dorsal)") for n, name in plain.items()}
    plain = {n: name for n, name in plain.items() if "Nehb" not in name and name not in {"CH5", "CR5"}}
    assert len(plain) >= 30
    assert {n: LEADS[n] for n in plain} == plain
    assert set(LEADS) <= set(meanings)
    for n in (*range(31, 39), *range(111, 115)):
        assert LEADS[n] == meanings[n].replace("Derived Lead ", "d")
    assert len(set(LEADS.values())) == len(LEADS)


@pytest.mark.parametrize("scheme", ["SCPECG", "MDC"])
def test_the_code_decides_in_both_schemes(tmp_path, scheme):
    numbers = (1, 2, 61, 62, 63, 64, 3, 8, 66, 67, 11, 16)
    obj = read_object(saved(tmp_path, ecg(Group(sines(5, 12), scheme=scheme, leads=numbers))))
    assert [c.lead for c in obj.recording.groups[0].channels] == (
        ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V6", "V8", "V9", "V3R", "X"]
    )


@pytest.mark.parametrize(
    ("scheme", "code", "meaning", "label", "name"),
    [
        ("SCPECG", "5.6.3-9-1", "Lead II", "V1", "I"),
        ("MDC", "2:61", "", "", "III"),
        ("99VENDOR", "1", "Lead I (Einthoven)\0", "", "I"),
        ("99VENDOR", "1", "aVR, augmented voltage, right", "", "aVR"),
        ("", "", "LEAD AVF ", "", "aVF"),
        ("", "", "ECG Lead V2", "", "V2"),
        ("", "", "", "v4", "V4"),
        ("", "", "something", "V4", "V4"),
        ("", "", "", "Aux 1", "Aux 1"),
        ("SCPECG", "5.6.3-9-999", "", "", ""),
        ("", "", "", "far too long to be the name of a lead", ""),
        ("", "", "", "Prüfling", ""),
        ("", "", "", "", ""),
    ],
)
def test_names_fall_back_to_meaning_then_label(scheme, code, meaning, label, name):
    assert lead_name(scheme, code, meaning, label) == name


def test_names_are_unique_in_a_group():
    assert unique_names(["II", "", "II", "ii", "ch2", ""]) == ["II", "ch2", "II-2", "ii-3", "ch2-2", "ch6"]


def test_a_channel_that_nothing_names(tmp_path):
    def nameless(item):
        del item.ChannelDefinitionSequence[2].ChannelSourceSequence

    obj = read_object(saved(tmp_path, ecg(Group(sines(5, 3), change_item=nameless))))
    assert [c.lead for c in obj.recording.groups[0].channels] == ["I", "II", "ch3"]
