"""Searching tags of the site: short texts from a closed set of addresses, of which none names a patient."""

import difflib
import re
from collections.abc import Iterator

from bridge.domain.found import Found, Source
from bridge.mapping.sources import check_transforms, first_at, found_at, parse_source

ADDRESSES: dict[str, tuple[str, ...]] = {
    "hl7": (
        "MSH-3.1", "MSH-4.1", "@sender", "@listener",
        "ORC-2.1", "ORC-3.1", "OBR-2.1", "OBR-3.1", "OBR-18.1", "OBR-19.1", "IPC-1.1", "IPC-2.1",
        "OBR-4.1", "OBR-4.2", "OBR-4.4", "OBR-4.5", "OBR-24", "PV1-2", "PV1-3.1", "PV1-3.4", "PV1-10",
        "TQ1-9.1", "ORC-7.6", "OBR-27.6", "OBR-5", "ORC-12.1", "ORC-17.1", "OBR-16.1",
    ),
    "dicom": (
        "Modality", "StudyDescription", "InstitutionName", "InstitutionalDepartmentName", "StationName",
        "CurrentPatientLocation", "AdmissionID", "AccessionNumber", "RequestedProcedureID", "ManufacturerModelName",
        "@calling_ae_title", "@called_ae_title",
    ),
}  # fmt: skip
"""What a tag may say: what is examined, where, how urgently, by which order. Persons stand by their codes alone."""

_PLACE = re.compile(r"\{([^{}]*)\}")


def check_template(text: str, kind: str) -> str:
    """The template, if all of its addresses are in the closed set. Raises ValueError with the nearest one."""
    if set("{}") & set(_PLACE.sub("", text)):
        raise ValueError(f"{text!r} has a brace without its other one")
    for place in _PLACE.findall(text) if "{" in text else [text]:
        source = parse_source(place)
        check_transforms(source)
        for address in source.addresses:
            if address not in ADDRESSES[kind]:
                near = difflib.get_close_matches(address, ADDRESSES[kind], n=1)
                offer = f"did you mean {near[0]}?" if near else f"known: {', '.join(ADDRESSES[kind])}"
                raise ValueError(f"{address!r} is not an address that tags are made of; {offer}")
    return text


def tags_at(source: Source, templates: tuple[str, ...]) -> Iterator[Found]:
    """The tags, in order. An address alone gives each of its values; a text needs a value for each of its places."""
    for template in templates:
        if "{" not in template:
            yield from found_at(source, (template,))
        elif filled := _filled(source, template):
            yield filled


def _filled(source: Source, template: str) -> Found | None:
    values: dict[str, Found] = {}
    for place in _PLACE.findall(template):
        found = first_at(source, (place,))
        if found is None:
            return None
        values[place] = found
    # In one pass: a value with braces in it is a value, not another place.
    text = _PLACE.sub(lambda place: values[place[1]].value, template)
    return Found(text, " + ".join(found.where for found in values.values()))
