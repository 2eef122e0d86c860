"""Rules and dashboard: each metric and label is there, a Prometheus answers each query, alerts fire as they say."""

import asyncio
import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.alarm_settings import AlarmSettings, Rule
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_metrics import fetched, measured
from tests.deploy.promql import Asked, asked
from tests.interface import rules_file
from tests.interface.page import COMMAND, filled, names_in
from tests.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
TEXT = RULES.read_text(encoding="utf-8")
GROUPS: dict[str, list[dict[str, Any]]] = {g["name"]: g["rules"] for g in yaml.safe_load(TEXT)["groups"]}
ALERTS = {rule["alert"]: rule for rules in GROUPS.values() for rule in rules}
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
OF_PROMETHEUS = {"up"}
"""Metrics that a scrape makes itself; `job` and `instance` are labels that it adds."""

Find = Callable[[str], str]
Play = Callable[..., str]


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard, by its panel, as Grafana sends it with all instances."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
            yield panel["title"], expression


def test_the_rules_are_what_the_code_makes_of_them() -> None:
    parts = {name: made() for name, made in rules_file.PARTS.items()}
    assert names_in(TEXT) == sorted(parts)
    assert filled(TEXT, parts) == TEXT, f"the code says otherwise; {COMMAND} writes the rules anew"
    assert [rule["alert"] for rule in GROUPS["cardio-bridge-alarms"]] == [
        rules_file.name_of(rule) for rule in Rule if rule is not Rule.TEST
    ]


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    assert len(ALERTS) == sum(map(len, GROUPS.values())), "each has a name of its own"
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert all(rule["annotations"][key].strip() for key in ("summary", "description", "runbook")), name


def test_thresholds_are_the_defaults_of_the_alarms() -> None:
    default = AlarmSettings()
    expected = {
        "QueueOld": f"> {default.queue_age:.0f}",
        "QueueLong": f">= {default.queue_length}",
        "InDoubt": f"> {default.doubt_age:.0f}",
        "Anomaly": f">= {default.anomaly_number}",
        "Disk": f"< {default.disk_room}",
        "DestinationDown": "== 0",
        "Ballast": "> 0",
        "Quarantine": "== 1",
    }
    assert {f"CardioBridge{name}Unsaid" for name in expected} == {r["alert"] for r in GROUPS["cardio-bridge-measures"]}
    for name, words in expected.items():
        own = ALERTS[f"CardioBridge{name}Unsaid"]["expr"].partition(" unless ")[0]
        assert own.endswith(f" {words}"), name
    seconds = int(ALERTS["CardioBridgeDestinationDownUnsaid"]["for"].removesuffix("m")) * 60
    assert seconds == default.destination_down + 300


def test_what_a_query_asks_for_is_seen() -> None:
    found = asked('max by (instance) (a_b{rule=~"x|y", instance=~".*"}[5m]) / c unless on (job) d{e="f"} > 0')
    assert found == [
        Asked("a_b", (("rule", ("x", "y")), ("instance", (".*",)))),
        Asked("c"),
        Asked("d", (("e", ("f",)),)),
    ]


async def test_a_label_that_nothing_is_in_is_there_as_0(house: OpenHouse) -> None:
    """As deploy/metrics.md says: what is absent would be no 0 to Prometheus."""
    async with house() as it:
        found = await measured(it)
    assert found["bridge_queue", "cardio"] == 0
    for state in ("WAITING", "SENT", "HELD", "DROPPED"):
        assert found["bridge_outbound", state] == found["bridge_commitment", state] == 0


async def test_every_metric_and_label_of_rules_and_dashboard_is_served(house: OpenHouse) -> None:
    async with house() as it:
        _, body = await fetched(it)
    served: dict[str, dict[str, set[str]]] = {name: {} for name in OF_PROMETHEUS}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            values = served.setdefault(sample.name, {})
            for key, value in sample.labels.items():
                values.setdefault(key, set()).add(value)
    everything = [*((name, rule["expr"]) for name, rule in ALERTS.items()), *queries()]
    for where, expression in everything:
        found = asked(expression)
        assert found, where
        for one in found:
            assert one.metric in served, f"{where}: {one.metric} is not served"
            for key, values in one.labels:
                if key not in {"job", "instance"}:
                    assert set(values) <= served[one.metric].get(key, set()), f"{where}: {one.metric} {key} {values}"
    shown = {one.metric for _, expression in queries() for one in asked(expression)}
    assert shown == served.keys(), "each metric has its place on the dashboard"


@pytest.fixture
def promtool(peer: Find) -> Callable[..., str]:
    program = peer("promtool")

    def run(*arguments: object) -> str:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def play(promtool: Callable[..., str], tmp_path: Path) -> Play:
    """What promtool says of our rules over played series."""

    def run(*tests: dict[str, Any]) -> str:
        file = tmp_path / "tests.json"
        file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
        return promtool("test", "rules", file)

    return run


@pytest.mark.peer
def test_promtool_takes_rules_and_configuration(promtool: Callable[..., str]) -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)
    for name in ("prometheus.yml", "single.yml"):
        assert "is valid prometheus config file" in promtool("check", "config", RULES.with_name(name))


AMISS = {
    "CardioBridgeDown": {'up{job="cardio-bridge"}': "0x20"},
    "CardioBridgeProcessDown": {
        'up{job="cardio-bridge"}': "0x20",
        'up{job="cardio-bridge", instance="another"}': "1x20",
    },
    "CardioBridgeStoreAway": {"bridge_store_up": "0x20"},
    "CardioBridgeStoreAwayFromOne": {
        "bridge_store_up": "0x20",
        'bridge_store_up{instance="another"}': "1x20",
    },
    "CardioBridgeNobodyAtWork": {'bridge_workers{role="dispatch"}': "0x20"},
    "CardioBridgeNotAsked": {
        'up{job="cardio-bridge", part="dispatch"}': "1x20",
        'bridge_workers{role="dispatch"}': "2x20",
    },
    "CardioBridgeNotScraped": {'up{job="another"}': "1x20"},
    "CardioBridgeRestarts": {'process_start_time_seconds{job="cardio-bridge"}': "0 1 2 3 4 4x15"},
    "CardioBridgeLogLinesLost": {"bridge_log_lines_dropped_total": "0x10 7x10"},
    "CardioBridgeFiles": {
        'process_open_fds{job="cardio-bridge"}': "900x20",
        'process_max_fds{job="cardio-bridge"}': "1024x20",
    },
    "CardioBridgeMemory": {'process_resident_memory_bytes{job="cardio-bridge"}': "700000000x20"},
    "CardioBridgeQueueOldUnsaid": {"bridge_queue_oldest_seconds": "901x20"},
    "CardioBridgeQueueLongUnsaid": {'bridge_queue{destination="cardio"}': "1000x20"},
    "CardioBridgeDestinationDownUnsaid": {'bridge_destination_up{destination="cardio"}': "0x20"},
    "CardioBridgeInDoubtUnsaid": {"bridge_in_doubt_oldest_seconds": "901x20"},
    "CardioBridgeAnomalyUnsaid": {"bridge_anomalies": "1x20"},
    "CardioBridgeDiskUnsaid": {"bridge_room_bytes": "1073741823x20"},
    "CardioBridgeBallastUnsaid": {"bridge_ballast_missing_bytes": "1x20"},
    "CardioBridgeQuarantineUnsaid": {"bridge_quarantine": "1x20"},
    **{rules_file.name_of(rule): {f'bridge_alarms{{rule="{rule}"}}': "1x20"} for rule in Rule if rule is not Rule.TEST},
}
WELL = {
    'up{job="cardio-bridge"}': "1x20",
    "bridge_store_up": "1x20",
    'process_start_time_seconds{job="cardio-bridge"}': "0 1 2 3 3x15",
    "bridge_log_lines_dropped_total": "7x20",
    'process_open_fds{job="cardio-bridge"}': "100x20",
    'process_max_fds{job="cardio-bridge"}': "1024x20",
    'process_resident_memory_bytes{job="cardio-bridge"}': "150000000x20",
    "bridge_queue_oldest_seconds": "900x20",
    'bridge_queue{destination="cardio"}': "999x20",
    'bridge_destination_up{destination="cardio"}': "1x20",
    "bridge_in_doubt_oldest_seconds": "900x20",
    "bridge_anomalies": "0x20",
    "bridge_room_bytes": "1073741824x20",
    "bridge_ballast_missing_bytes": "0x20",
    "bridge_quarantine": "0x20",
    **{f'bridge_workers{{role="{role}"}}': "1x20" for role in ("receive", "dispatch", "console")},
    **{f'bridge_alarms{{rule="{rule}"}}': "0x20" for rule in Rule if rule is not Rule.TEST},
}
"""At the thresholds, and one step short of them."""


def played(series: dict[str, str], firing: set[str]) -> dict[str, Any]:
    """A test of promtool's: after 18 minutes exactly these fire."""
    return {
        "interval": "1m",
        "input_series": [{"series": _of_one(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "18m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)],
            }
        ],
    }


def _of_one(series: str) -> str:
    """The series of one instance."""
    if "instance=" in series:
        return series
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{{labels}{"," if labels else ""}instance="bridge:8080"}}'


@pytest.mark.peer
def test_each_alert_fires_when_it_should_and_only_then(play: Play) -> None:
    assert AMISS.keys() == ALERTS.keys()
    said_itself = {f"{name}Unsaid": name for name in ALERTS if f"{name}Unsaid" in ALERTS}
    tests = [played(WELL, set())]
    for name, series in AMISS.items():
        if name != "CardioBridgeNotScraped":
            tests.append(played({**WELL, **series}, {name}))
    tests.append(played(AMISS["CardioBridgeNotScraped"], {"CardioBridgeNotScraped"}))
    for unsaid, name in said_itself.items():  # the bridge says so: once is enough
        tests.append(played({**WELL, **AMISS[unsaid], **AMISS[name]}, {name}))
    assert "SUCCESS" in play(*tests)


GROUP = (("receive", "a"), ("receive", "b"), ("dispatch", "a"), ("dispatch", "b"), ("console", "a"))


def of_group(series: dict[str, str]) -> dict[str, str]:
    """The same series as every process of two bridges serves them; the second bridge is well."""
    found = {}
    for role, host in GROUP:
        more = f'part="{role}", instance="{role}-{host}:8080"'
        for name, values in series.items():
            for bridge, served in (("north", values), ("south", WELL.get(name, values))):
                metric, _, labels = name.rstrip("}").partition("{")
                found[f'{metric}{{{labels}{"," if labels else ""}{more}, bridge="{bridge}"}}'] = served
    return found


@pytest.mark.peer
def test_what_every_process_serves_is_told_once(play: Play) -> None:
    """A gauge of the store is the same at each of them: one alert of its bridge, and none of the other."""
    own = {name for name in AMISS if "job=" in str(AMISS[name])} | {"CardioBridgeLogLinesLost"}
    own |= {"CardioBridgeDiskUnsaid", "CardioBridgeBallastUnsaid", "CardioBridgeStoreAwayFromOne"}
    amiss = [played(of_group({**WELL, **AMISS[name]}), {name}) for name in sorted(AMISS.keys() - own)]
    tests = [played(of_group(WELL), set()), *amiss]
    assert "SUCCESS" in play(*tests)


@pytest.mark.peer
def test_a_role_that_is_gone_is_critical_and_one_process_of_it_a_warning(play: Play) -> None:
    def gone(*instances: str) -> dict[str, str]:
        found = of_group(WELL)
        return {
            name: "0x20" if name.startswith("up{") and any(f'"{i}:8080", bridge="north"' in name for i in instances)
            else values for name, values in found.items()
        }  # fmt: skip

    tests = [
        played(gone("receive-a"), {"CardioBridgeProcessDown"}),
        played(gone("receive-a", "receive-b"), {"CardioBridgeDown"}),
        played(gone("console-a"), {"CardioBridgeDown"}),
    ]
    assert "SUCCESS" in play(*tests)


@pytest.mark.peer
def test_a_full_disk_of_one_host_is_told_though_another_host_says_so_of_its_own(play: Play) -> None:
    """One process alone looks for the alarm, at its own disk."""
    series = of_group({**WELL, **AMISS["CardioBridgeDisk"]})
    series = {
        name: "5x20" if name.startswith("bridge_room_bytes{") and '"receive-a:8080", bridge="north"' in name else values
        for name, values in series.items()
    }
    assert "SUCCESS" in play(played(series, {"CardioBridgeDisk", "CardioBridgeDiskUnsaid"}))


@contextlib.asynccontextmanager
async def prometheus(program: str, folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus with our configuration that asks this bridge; its address."""
    configuration = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    configuration["rule_files"] = [str(RULES)]
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    listen = f"127.0.0.1:{free_port()}"
    where = (
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={listen}",
    )
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(program, *where, stdout=quiet, stderr=quiet)
    try:
        yield f"http://{listen}"
    finally:
        process.terminate()
        await process.wait()


async def answer(address: str, path: str, **query: str) -> Any:
    """What its API says; None where it is not up yet."""

    def get() -> Any:
        try:
            with urllib.request.urlopen(f"{address}{path}?{urllib.parse.urlencode(query)}", timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as problem:
            if problem.code == HTTPStatus.SERVICE_UNAVAILABLE:  # its port is open before its store is
                return None
            pytest.fail(f"{query}: {problem.read()!r}")
        except OSError:
            return None

    return await asyncio.to_thread(get)


async def until(address: str, expression: str) -> None:
    """Until a query has an answer."""
    async with asyncio.timeout(90):
        while True:
            found = await answer(address, "/api/v1/query", query=expression)
            if found and found["result"]:
                return
            await asyncio.sleep(0.2)


@pytest.mark.peer
@pytest.mark.timeout(300)
async def test_a_prometheus_answers_every_query_of_the_dashboard(peer: Find, house: OpenHouse, tmp_path: Path) -> None:
    program = peer("prometheus")
    (tmp_path / "prometheus").mkdir()
    async with house() as it:
        await it.hl7(order())
        async with prometheus(program, tmp_path / "prometheus", it.up.addresses["console"]) as address:
            await until(address, 'count_over_time(up{job="cardio-bridge"}[1h]) >= 4 and up == 1')
            empty = []
            for title, expression in queries():
                found = await answer(address, "/api/v1/query", query=expression)
                if not found["result"]:
                    empty.append((title, expression))
            assert empty == []
            rules = await answer(address, "/api/v1/rules")
            told = {rule["name"]: (rule["health"], rule["state"]) for g in rules["groups"] for rule in g["rules"]}
            assert told.keys() == ALERTS.keys()
            assert {name for name, (health, _) in told.items() if health == "err"} == set()
            # Of the machine, and of the process that has run the tests before this one.
            not_the_bridge = {"CardioBridgeDisk", "CardioBridgeDiskUnsaid", "CardioBridgeMemory"}
            assert {name for name, (_, state) in told.items() if state != "inactive"} <= not_the_bridge


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((folder / "dashboards" / "cardio-bridge.yaml").read_text())["providers"]
    compose = (DEPLOY / "compose.yaml").read_text()
    assert re.search(rf"dashboard\.json:{provider['options']['path']}/\S+:ro", compose)
