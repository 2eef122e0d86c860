"""The rules in force as a sheet that people read: each field's sources, what is made of them, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import SettingsError
from bridge.mapping.rules import Chain, Numbers, Part, Rules, TagRule, load_rules
from bridge.setting_origins import Place
from bridge.settings import Settings, read_lined_toml

DEFAULT = "default"
_MADE = {
    "patient_id": "the best identifier, by patient.authorities and patient.types",
    "patient_name": "family and given name, by name_group",
    "patient_gender": "by tables.gender",
    "patient_birth_date": "first eight digits, a date that can be",
    "patient_age": "whole years; only without a birth date",
    "patient_height": "newest observation, in centimetres",
    "patient_weight": "newest observation, in grams",
    "indications": "reasons in order, folded by code",
    "searching_tags": "each once, behind the bridge's own",
}
_FIRST = "first of the chain"
_NUMBER = "each one, with its namespace"
_DESTINATION = "first of the chain; read by the routes"


@dataclass(frozen=True, slots=True)
class Said:
    """A value of the rules and who says it: `default`, or file and line. `own`: said for this peer alone."""

    value: Any
    origin: str = DEFAULT
    own: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """Where one field comes from. `rule` is what is made of it: the procedure, a constant, or left out."""

    name: str
    hl7: Said
    dicom: Said
    rule: Said


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rules of listeners, or of one peer among those that come by them (`peer`: sender or AE title)."""

    version: str
    file: str
    fields: tuple[Line, ...]
    more: tuple[tuple[str, Said], ...]
    listeners: tuple[str, ...] = ()
    peer: str = ""
    changed: bool = False  # the file on the disk says something else by now
    peers: tuple["Sheet", ...] = field(default=())


def sheets(settings: Settings, rules: Mapping[str, Rules]) -> list[Sheet]:
    """One for each set of rules, with the listeners that it holds for; objects are read by those of `hl7`.

    Reads the mapping files again for their lines. Where one was changed since the start, the sheet says so, and names
    the file without a line.
    """
    by_file: dict[str, list[str]] = {}
    for name, listener in settings.hl7.all().items():
        by_file.setdefault(listener.mapping or settings.mapping.file, []).append(name)
        if name == "hl7":
            by_file[listener.mapping or settings.mapping.file].append("dicom")
    return [_sheet(file, names, rules[names[0]]) for file, names in by_file.items()]


def _sheet(file: str, listeners: list[str], rules: Rules) -> Sheet:
    lines = _lines(file, rules)
    author = _Author(file, lines)
    peers = [
        _Author(file, lines, (kind, name)).sheet(part, rules.version, peer=name)
        for kind, parts in (("senders", rules.senders), ("ae_titles", rules.ae_titles))
        for name, part in parts.items()
    ]
    return author.sheet(rules, rules.version, listeners=tuple(listeners), peers=tuple(peers), changed=lines is None)


def _lines(file: str, rules: Rules) -> dict[Place, int] | None:
    """The lines of the file, if it is the one whose rules are in force; else None."""
    if not file:
        return {}
    try:
        document, lines = read_lined_toml(Path(file), setting="mapping.file")
        return lines if load_rules(document, name=file).version == rules.version else None
    except SettingsError:
        return None


@dataclass(frozen=True, slots=True)
class _Author:
    """Who says what in one part of a mapping file: the site's, or the part of a peer, which is laid over it."""

    file: str
    lines: dict[Place, int] | None
    part: tuple[str, ...] = ()

    def sheet(self, part: Part, version: str, **more: Any) -> Sheet:
        """The sheet of a part."""
        usual = Part()
        fields = [
            self._line(("fields", name), _MADE.get(name, _FIRST), part, usual)
            for name in type(part.fields).model_fields
        ]
        fields += [self._line(("numbers", name), _NUMBER, part, usual) for name in Numbers.model_fields]
        fields.append(self._line(("destination",), _DESTINATION, part, usual))
        rest: list[tuple[str, ...]] = [("patient", name) for name in type(part.patient).model_fields]
        rest += [("tables", "gender", code) for code in part.tables.gender]
        rest += [("time_zone",), ("height_unit",), ("name_group",)]
        told = tuple((".".join(place), self._said(place, _at(part, place), _at(usual, place))) for place in rest)
        return Sheet(version, self.file, tuple(fields), told, **more)

    def _line(self, place: tuple[str, ...], made: str, part: Part, usual: Part) -> Line:
        rule: Chain | TagRule = _at(part, place)
        default: Chain | TagRule = _at(usual, place)
        hl7, dicom = (
            self._said((*place, kind), getattr(rule, kind), getattr(default, kind)) for kind in ("hl7", "dicom")
        )
        constant = getattr(rule, "constant", None)
        if getattr(rule, "omit", False):
            said = self._said((*place, "omit"), "left out", None)
        elif constant:
            said = self._said((*place, "constant"), f"always {constant}", None)
        else:
            said = Said(made)
        return Line(".".join(place), hl7, dicom, said)

    def _said(self, place: tuple[str, ...], value: Any, usual: Any) -> Said:
        if self.lines is None:
            return Said(value, DEFAULT if value == usual else self.file)
        for way, own in (((*self.part, *place), bool(self.part)), (place, False)):
            if (line := self._line_of(way)) is not None:
                return Said(value, f"{self.file}:{line}", own)
        return Said(value)

    def _line_of(self, way: Place) -> int | None:
        lines = self.lines or {}
        if way[-3:-1] != ("tables", "gender"):
            return lines.get(way)
        code = str(way[-1])  # codes are compared without case
        return next((n for w, n in lines.items() if w[:-1] == way[:-1] and str(w[-1]).upper() == code), None)


def _at(part: Part, place: tuple[str, ...]) -> Any:
    found: Any = part
    for name in place:
        found = found.get(name) if isinstance(found, dict) else getattr(found, name)
    return found
