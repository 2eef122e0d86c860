"""`deploy/alarms.md` says what the code does: its tables and examples are made anew and compared."""

import hashlib
import hmac
import json
import re

from bridge.alarm_settings import AlarmSettings, MailSettings, Rule, WebhookSettings
from tests.interface.alarm_page import PAGE, PARTS, SETTINGS, WHEN
from tests.interface.page import COMMAND, filled, names_in

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_code_makes_of_it() -> None:
    parts = {name: made() for name, made in PARTS.items()}
    assert sorted(names_in(TEXT)) == sorted(parts)
    assert filled(TEXT, parts) == TEXT, f"the code says otherwise; {COMMAND} writes the page anew"


def test_every_rule_and_every_setting_has_its_line_and_nothing_else_has() -> None:
    assert WHEN.keys() == set(Rule)
    models = (AlarmSettings, WebhookSettings, MailSettings)
    assert SETTINGS.keys() == {name for model in models for name in model.model_fields}


def test_the_signature_on_the_page_can_be_verified_from_the_page() -> None:
    """As its reader would: from the body, the secret and the words that stand there."""
    shown = next(json.loads(found) for found in re.findall(r"```\n(\{.*?\n\})\n```", TEXT, re.DOTALL))
    body = json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode()
    found = re.search(r"Bridge-Signature: t=(\d+),v1=([0-9a-f]{64})", TEXT)
    assert found is not None
    secret = b"an invented secret of tests"
    assert secret.decode() in TEXT
    assert hmac.new(secret, found[1].encode() + b"." + body, hashlib.sha256).hexdigest() == found[2]
