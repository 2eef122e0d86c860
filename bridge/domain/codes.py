"""Which acknowledgement code a problem gets: the table of hl7.md §3.2, as the listener overrides it."""

from collections.abc import Sequence
from dataclasses import replace

from bridge.domain.verdict import AckCode, Condition, Problem
from bridge.settings import AnswerCodes

_CASES: dict[Condition, str] = {
    Condition.SEGMENT_SEQUENCE: "missing_field",
    Condition.REQUIRED_FIELD_MISSING: "missing_field",
    Condition.DATA_TYPE: "bad_value",
    Condition.TABLE_VALUE_NOT_FOUND: "unknown_control",
    Condition.UNSUPPORTED_MESSAGE_TYPE: "unsupported_type",
    Condition.UNSUPPORTED_EVENT_CODE: "unsupported_event",
    Condition.UNSUPPORTED_PROCESSING_ID: "processing_id",
    Condition.UNSUPPORTED_VERSION_ID: "unknown_version",
    Condition.UNKNOWN_KEY_IDENTIFIER: "unknown_order",
    Condition.DUPLICATE_KEY_IDENTIFIER: "duplicate_order",
    Condition.APPLICATION_INTERNAL_ERROR: "api_refused",
}
_OF_PATIENTS = frozenset({"unknown_order", "duplicate_order", "api_refused"})
_RANK = (AckCode.AA, AckCode.AE, AckCode.AR)


def code_of(problem: Problem, codes: AnswerCodes) -> AckCode:
    """MSA-1 for one problem. A warning is AA, unless the listener is strict about what it warns of."""
    case = _CASES.get(problem.condition, "")
    if problem.where.startswith(("MRG", "EVN")) and case in _OF_PATIENTS:
        case = "refused_patient"
    if problem.severity == "W":
        case = "unknown_code" if case == "unknown_control" else case
        if case not in {"unknown_code", "bad_value", "unknown_version"}:
            return AckCode.AA
    elif case == "bad_value":
        return AckCode.AE
    return AckCode(getattr(codes, case, "AE"))


def judged(problems: Sequence[Problem], codes: AnswerCodes) -> tuple[AckCode, tuple[Problem, ...]]:
    """The worst code, and the problems with the severity that it gives them: what is answered AA is a warning."""
    code = AckCode.AA
    told = []
    for problem in problems:
        own = code_of(problem, codes)
        told.append(replace(problem, severity="W" if own is AckCode.AA else "E"))
        code = max((code, own), key=_RANK.index)
    return code, tuple(told)
