"""A source made of written-down fields, by the address grammar of `bridge.domain.found` and nothing more."""

import re

from bridge.domain.found import Found

_HL7 = re.compile(
    r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\]|\[(\d+)(?:\.(\d+))?=([^\]]*)\])?-(\d+)"
    r"(?:\[(\d+)\]|\[(\d+)(?:\.(\d+))?=([^\]]*)\])?(?:\.(\d+))?(?:\.(\d+))?"
)


class Hl7:
    """Segments as text, fields behind bars: `Hl7("PID|||4711^^^TEST^MR", sender="HIS|NORTH")`."""

    def __init__(self, *lines: str, sender: str = "HIS|TEST") -> None:
        self._segments: list[tuple[str, int, list[str]]] = []
        for line in lines:
            fields = line.split("|")
            number = 1 + sum(name == fields[0] for name, _, _ in self._segments)
            self._segments.append((fields[0], number, fields))
        self._sender = sender

    def find(self, address: str) -> list[Found]:
        if address == "@sender":
            return [Found(self._sender, address)]
        read = _HL7.fullmatch(address)
        if read is None:
            return []
        name, number, s_field, s_comp, s_value, field, repeat, r_comp, r_sub, r_value, comp, sub = read.groups()
        same = [s for s in self._segments if s[0] == name]
        found = []
        for _, at, fields in same:
            if number and at != int(number):
                continue
            if s_field and _cut(_field(fields, s_field), s_comp, None).casefold() != s_value.casefold():
                continue
            repeats = _field(fields, field).split("~")
            for n, one in enumerate(repeats, 1):
                if repeat and n != int(repeat):
                    continue
                if r_comp and _cut(one, r_comp, r_sub) != r_value:
                    continue
                value = '""' if one == '""' else _cut(one, comp, sub)
                where = f"{name}[{at}]" if len(same) > 1 else name
                where += f"-{field}" + (f"[{n}]" if len(repeats) > 1 else "")
                where += "".join(f".{part}" for part in (comp, sub) if part)
                if value:
                    found.append(Found("" if value == '""' else value, where, null=value == '""'))
        return found


def _field(fields: list[str], number: str) -> str:
    return fields[int(number)] if int(number) < len(fields) else ""


def _cut(text: str, component: str | None, subcomponent: str | None) -> str:
    for separator, number in (("^", component), ("&", subcomponent)):
        if number:
            parts = text.split(separator)
            text = parts[int(number) - 1] if int(number) <= len(parts) else ""
    return text.strip()


class Dicom:
    """Keywords and their values; a list is several values, a list of dicts a sequence."""

    def __init__(self, values: dict | None = None, *, ae: str = "CART1", **more) -> None:
        self._values = {**(values or {}), **more}
        self._ae = ae

    def find(self, address: str) -> list[Found]:
        if address == "@calling_ae_title":
            return [Found(self._ae, address)] if self._ae else []
        return list(self._at(self._values, address.split("."), ""))

    def _at(self, values, steps, before):
        keyword, _, wanted = steps[0].rstrip("]").partition("[")
        value = values.get(keyword)
        if value is None:
            return
        several = value if isinstance(value, list) else [value]
        for n, one in enumerate(several, 1):
            if wanted and n != int(wanted):
                continue
            if isinstance(one, dict):
                if len(steps) > 1:
                    yield from self._at(one, steps[1:], f"{before}{keyword}[{n}].")
            elif one and len(steps) == 1:
                yield Found(one, before + keyword + (f"[{n}]" if len(several) > 1 else ""))
