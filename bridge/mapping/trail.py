"""The task fields of one mapping while it is made, each with the trace of how it came about."""

from dataclasses import dataclass, field
from typing import Any

from bridge.domain.patient import Identifier
from bridge.domain.task import FieldTrace, Mapped, OrderNumber


@dataclass(slots=True)
class Trail:
    """What was found so far. Traces hold values and are stored; warnings hold none and may be shown anywhere."""

    fields: dict[str, Any] = field(default_factory=dict)
    traces: dict[str, FieldTrace] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, where: str, rule: str, note: str = "") -> None:
        """A value that is used."""
        self.fields[name] = value
        self.traces[name] = FieldTrace(name, value, where, rule, note)

    def drop(self, name: str) -> None:
        """A value that turned out to be none."""
        self.fields.pop(name, None)
        self.traces.pop(name, None)

    def warn(self, text: str) -> None:
        """Something for the operator; never a patient's value."""
        if text not in self.warnings:
            self.warnings.append(text)

    def mapped(
        self, identifier: Identifier | None, numbers: tuple[OrderNumber, ...], *, destination: str = ""
    ) -> Mapped:
        """The end of it."""
        return Mapped(
            fields=self.fields,
            traces=tuple(self.traces.values()),
            warnings=tuple(self.warnings),
            patient_authority=identifier.authority if identifier else "",
            numbers=numbers,
            destination=destination,
        )
