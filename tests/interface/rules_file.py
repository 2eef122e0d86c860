"""The made part of `deploy/prometheus/rules.yml`: an alert for each rule of the bridge's own, in its own words."""

import json
from pathlib import Path

from bridge.alarm_settings import Rule
from bridge.dispatch.alarms.meanings import MEANINGS

PAGE = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"

CRITICAL = {
    Rule.QUEUE_OLD,
    Rule.DESTINATION_DOWN,
    Rule.IN_DOUBT,
    Rule.DISK,
    Rule.QUARANTINE,
    Rule.NOT_TOLD,
}
"""Work stands still, may stand still soon, or nobody would hear of it."""


def name_of(rule: Rule) -> str:
    """The alert's name."""
    return "CardioBridge" + "".join(word.capitalize() for word in rule.split("_"))


def alarms() -> str:
    """The alerts, as YAML whose texts are JSON's; the mark behind them stands in a comment."""
    return "".join(_alert(rule) for rule in Rule if rule is not Rule.TEST) + "      # "


def _alert(rule: Rule) -> str:
    meaning = MEANINGS[rule]
    return f"""\
      - alert: {name_of(rule)}
        expr: max by (bridge) (bridge_alarms{{rule="{rule}"}}) > 0
        labels:
          severity: {"critical" if rule in CRITICAL else "warning"}
        annotations:
          summary: {_text(meaning.title)}
          description: {_text(meaning.means)}
          runbook: {_text(meaning.act)}
"""


def _text(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)


PARTS = {"alarms": alarms}
