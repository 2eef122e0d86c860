"""The made parts of `deploy/settings.md`: every table and key of `bridge.toml`, read from the models.

What a model cannot say for itself stands here, or on the page of its protocol. A word that is missing is a KeyError,
and one that is left over fails the test.
"""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

from bridge.alarm_settings import AlarmSettings, MailSettings, Rule, WebhookSettings
from bridge.cardio_settings import CardioSettings, NamedDestinationSettings, RouteSettings
from bridge.console_settings import ConsoleSettings, OidcSettings
from bridge.dicom_settings import CommitmentSettings, DicomSettings, PeerSettings, WorklistSettings
from bridge.hl7_settings import (
    AnswerCodes,
    ClientTlsSettings,
    Hl7Settings,
    NamedListenerSettings,
    SenderSettings,
    TlsSettings,
)
from bridge.retention_settings import RetentionSettings
from bridge.settings import (
    MappingSettings,
    OrderSettings,
    PatientSettings,
    RecordingSettings,
    Settings,
    SiteSettings,
)
from bridge.store_settings import StoreSettings
from tests.interface import alarm_page, conformance, tables
from tests.interface.page import code, table

PAGE = Path(__file__).parents[2] / "deploy" / "settings.md"

WORDS: dict[type[BaseModel], dict[str, str]] = {
    SiteSettings: {
        "time_zone": "of times without an offset, and of times that people read",
        "key_file": "the secret behind the keys in `searching_tags`; empty: `site.key` beside the database, made on "
        "the first start. It must stay the same for as long as the database does",
        "assigning_authority": "what an absent authority of a patient identifier means here; empty: it stays absent",
    },
    StoreSettings: {
        "url": "`sqlite:///` and a path (of an absolute one that makes four strokes), or "
        "`postgresql+psycopg://user@host/database`; several hosts as `?host=one:5432&host=two:5432`",
        "password_file": "holds the password of PostgreSQL's user, so that it stands in no URL",
        "folder": "what one process keeps of its own where the store is on PostgreSQL; none: `var`. On SQLite it is "
        "the database's own folder",
        "payloads": "the folder of recordings, mounted on every host where there are several, or their bucket as "
        "`s3://NAME/PREFIX`",
        "s3_endpoint": "the service that has the bucket, where it is not AWS: `https://host:port`",
        "s3_region": "the bucket's region; empty: `us-east-1`, which most services of one's own take",
        "s3_key_file": "two lines: the id of the key and its secret; none: what AWS gives to the host",
        "s3_ca_file": "authorities in place of the host's trust store",
        "min_free": "below it nothing new is taken",
        "ballast": "the file that is given up on a full disk, so that states can still be written",
        "lease": "on PostgreSQL: seconds after which the work of a process that gives no sign of life is another's. At "
        "the least 2; the same on every host",
        "prepare": "on PostgreSQL: statements are prepared at the server; false behind a pooler that cannot keep them "
        "(PgBouncer before 1.21, or with `max_prepared_statements = 0`)",
        "poll": "on PostgreSQL: seconds between two looks at what other processes wrote, where no word of it comes",
        "epoch_file": "how far the database has come, kept outside of it; none: beside it. Better on a disk that a "
        "restored backup does not bring back",
    },
    RetentionSettings: {
        "messages": "days that HL7 messages stay readable once they are finished, until `bridge db prune`",
        "recordings": "the same of recordings and their files, from when their storage commitment was asked for last",
        "refused": "the same of what was refused and nobody has looked at; none: it stays for a person",
        "alarms": "days that an alarm stays in the history once it is over",
        "sessions": "days that a session or a token is kept behind its end",
    },
    OrderSettings: {
        "create": "draft: each order makes a draft task; on_recording: the task is made when the ECG is there",
        "unknown_change": "a change (XO) of an order that is not known: make it, or refuse it",
        "cancel_with_visit": "a cancelled admission cancels its orders that are not yet tasks",
    },
    PatientSettings: {
        "trusted_authorities": "whose identifiers may be merged; empty: every authority's",
        "inverse_merge": "B into A after A into B",
        "moves": "A43, A44, A45",
        "deletes": "A23, A29: refuse, or mark the patient inactive",
    },
    RecordingSettings: {
        "without_order": "a recording that has none: a task from its own data, or held for a person",
        "order_wait": "seconds that a recording waits for its order",
        "several_groups": "waveform groups of one object: a task each, the longest alone, or held",
    },
    MappingSettings: {
        "file": "the site's rules over the defaults; empty: the defaults. bridge/mapping/rules.py is its form"
    },
    CardioSettings: {
        "name": "of the first destination, in messages, logs and metrics",
        "base_url": "of the API; `http://` for loopback only",
        "organization_path": "the organization's unique path",
        "token_file": "holds the API token; read anew, so that a new one is taken at once",
        "token": "the token itself, in place of the file; as BRIDGE_CARDIO__TOKEN, where there is no better way",
        "ca_file": "authorities in place of the host's trust store",
        "proxy": "the environment's are never asked",
        "upload_format": "a ZIP of WFDB files, or EDF+",
        "auto_complete": "tasks are processed fully, with no manual approval",
        "chunk_size": "of an upload",
        "timeout": "seconds of a call; a task's POST among them",
        "in_flight": "tasks and uploads at once",
        "uploads_in_flight": "of these; none: all but one, so that orders are not behind uploads",
        "rate": "tasks per second, of all dispatchers together: each has an even part; 0: as many as there are",
        "unavailable_is_not_applied": "the vendor's word that a 503 means that nothing was done; else it is a doubt",
        "processed_within": "seconds; later is an alarm; 0: tasks are not watched",
        "quiet_time": 'seconds before "not found" may settle a doubt',
        "routes": "what goes to this destination; the first route that fits decides, in the order of the file",
        "unrouted": "what no route fits: to the first destination, or held for a person",
        "destinations": "more of them; what one does not set it has from `[cardio]`, but never its token beside an "
        "address of its own",
    },
    NamedDestinationSettings: {},
    RouteSettings: {
        "receiving_application": "MSH-5.1",
        "receiving_facility": "MSH-6.1",
        "sender": "MSH-3 and MSH-4: `HIS|WARD`, `HIS|*` or `*|WARD`",
        "listener": "`hl7`, `hl7.NAME` or `dicom`",
        "calling_ae_title": "who brought the object",
        "called_ae_title": "by which of our names",
        "mapped": "what the mapping's rule `destination` says",
    },
    ConsoleSettings: {
        "listen": "where pages, API, health and metrics are",
        "tls": "certificate and key; with client_ca only its certificates are let in",
        "insecure_plaintext": "plaintext outside loopback, protected by other means",
        "sign_in": "false: whoever reaches it is admin; loopback only",
        "idle_timeout": "seconds without a click until a sign-out",
        "longest_session": "seconds",
        "hosts": "names that it is called by besides its address: `name`, `name:port`, or `https://name` behind a "
        "proxy that speaks TLS for it; empty: any, outside loopback. Prometheus' name for it among them",
        "oidc": "sign-in by OpenID Connect; deploy/sign-in.md",
    },
    OidcSettings: {
        "issuer": "the provider's address",
        "client_id": "what we are there",
        "client_secret_file": "what we prove it with",
        "redirect_url": "of ours, as the provider knows it: `https://HOST/sign-in/oidc/back`",
        "scope": "where the provider needs another one to tell the groups",
        "name_claim": "the claim that names the person",
        "groups_claim": "the claim that names the groups",
        "roles": "by group; the highest counts, and nobody without one comes in",
        "ca": "in place of the host's trust store",
    },
    TlsSettings: {
        "certificate": "PEM, with its chain; a new one is taken without a restart",
        "key": "PEM, without a passphrase",
        "client_ca": "asks for client certificates from that authority",
    },
    ClientTlsSettings: {
        "ca": "whom we trust; none: the host's trust store",
        "certificate": "that we show where it is asked for",
        "key": "its key",
    },
    PeerSettings: {
        "address": "where it hears of its storage commitments",
        "tls": "how we speak TLS to it; none: plaintext",
    },
    DicomSettings: conformance.SETTINGS,
    WorklistSettings: conformance.WORKLIST_SETTINGS,
    CommitmentSettings: conformance.COMMITMENT_SETTINGS,
    Hl7Settings: {
        **tables.SETTINGS,
        "codes": "MSA-1 by case (below)",
        "listeners": "more of them; what one does not set it has from `[hl7]`",
    },
    NamedListenerSettings: {},
    SenderSettings: {},
    AnswerCodes: tables.CASES,
    AlarmSettings: alarm_page.SETTINGS,
    WebhookSettings: alarm_page.SETTINGS,
    MailSettings: alarm_page.SETTINGS,
}
LIKE = {NamedListenerSettings: Hl7Settings, NamedDestinationSettings: CardioSettings, SenderSettings: Hl7Settings}
"""Tables whose keys mean what they mean in another one: shown are those that it has besides, and their names."""
OWN_WORDS = {
    "hl7.listeners": {"name": "in messages, logs and metrics: `hl7.NAME`", "listen": "host:port"},
    "cardio.destinations": {"name": "in messages, logs and metrics"},
}
HEADINGS = {
    "hl7.listeners": "[[hl7.listeners]]",
    "hl7.senders": '[hl7.senders."HIS|WARD"]',
    "dicom.peers": '[dicom.peers."AE TITLE"]',
    "dicom.peers.tls": '[dicom.peers."AE TITLE".tls]',
    "cardio.routes": "[[cardio.routes]]",
    "cardio.destinations": "[[cardio.destinations]]",
}
"""Lists of tables, and tables by names of the site's own, as they are written in the file."""
_KINDS = {
    "_bytes": "size",
    "_place": "path or s3://NAME/PREFIX",
    "_address": "host:port",
    "_zone": "time zone",
    "_codec": "character set",
    "_network": "network",
}
_PLAIN: dict[Any, str] = {
    str: "text", bool: "true, false", int: "integer", float: "number", Path: "path", SecretStr: "secret", Rule: "rule",
}  # fmt: skip


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table of `bridge.toml` by its name, each after the one that it is in."""
    for name, field in Settings.model_fields.items():
        yield from _below(name, _model_in(field.annotation))


def _below(name: str, model: type[BaseModel] | None) -> Iterator[tuple[str, type[BaseModel]]]:
    if model is None:
        return
    yield name, model
    for key, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None and not (model in LIKE and key in LIKE[model].model_fields):
            yield from _below(f"{name}.{key}", inner)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone, in a list or in a table."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(one) for one in get_args(annotation)]
    return next((one for one in found if one), None)


def keys(name: str, model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that a table's lines are for: of one that is like another, those of its own."""
    own = OWN_WORDS.get(name, {})
    fields = model.model_fields
    return {k: f for k, f in fields.items() if model not in LIKE or k in own or k not in LIKE[model].model_fields}


def reference() -> str:
    """All of it: a heading and a table for each section."""
    return "\n".join(_section(name, model) for name, model in sections())


def _section(name: str, model: type[BaseModel]) -> str:
    words = {**WORDS[model], **OWN_WORDS.get(name, {})}
    lines = [
        (code(key), kind(field.annotation, tuple(field.metadata)), _default(field), words[key])
        for key, field in keys(name, model).items()
    ]
    text = f"### {code(HEADINGS.get(name, f'[{name}]'))}\n\n"
    if lines:
        text += table(("key", "type", "default", "what it is"), lines)
    if model in LIKE:
        same = ", ".join(code(key) for key in model.model_fields if key not in keys(name, model))
        besides = "Besides, as" if lines else "As"
        text += f"{chr(10) if lines else ''}{besides} in `[{name.partition('.')[0]}]`: {same}.\n"
    return text


def kind(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """A type in words, with its bounds."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return kind(inner, (*more, *metadata))
    for one in metadata:
        if isinstance(one, (BeforeValidator, AfterValidator)) and one.func.__name__ in _KINDS:
            return _KINDS[one.func.__name__] + _bounds(metadata)
    if get_origin(annotation) in {Union, UnionType}:
        left = [one for one in get_args(annotation) if one is not NoneType]
        return " or ".join(kind(one, metadata) for one in left)
    if get_origin(annotation) is Literal:
        return ", ".join(code(str(one)) if one else "empty" for one in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {kind(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"table of {kind(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _PLAIN[annotation] + _bounds(metadata)


def _bounds(metadata: tuple[Any, ...]) -> str:
    said = []
    for one in metadata:
        match one:
            case Gt(gt=least):
                said.append(f"above {least}")
            case Ge(ge=least):
                said.append(f"{least} or more")
            case Le(le=most):
                said.append(f"{most} at the most")
            case Lt(lt=most):
                said.append(f"below {most}")
            case StringConstraints(max_length=int(most)):
                said.append(f"{most} characters at the most")
            case MinLen(min_length=least):
                said.append(f"{least} at the least")
            case _:
                pass
    return f" ({', '.join(said)})" if said else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    if value is None or isinstance(value, BaseModel) or value in ("", {}):
        return ""
    if isinstance(value, tuple):
        return code("[" + ", ".join(_shown(one).strip("`") for one in value) + "]")
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, float):
        return code(f"{value:g}" if value < 1e5 else f"{value:.0f}")
    return code(str(value)) if isinstance(value, int) else code(f'"{value}"')


PARTS = {"settings": reference}
