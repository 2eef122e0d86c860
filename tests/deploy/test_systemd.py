"""The unit: what systemd says of it, and the bridge under its system call filters."""

import json
import re
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from bridge import notifying
from bridge.app import DRAIN
from bridge.settings import load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance.process import api, settings
from tests.acceptance.scene import order
from tests.acceptance.test_ecg_to_task import recording
from tests.deploy import confined
from tests.deploy.containerfile import ROOT
from tests.deploy.processes import RUN, Process, run

__all__ = ["api"]
FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "cardio-bridge.service"
TEXT = UNIT.read_text(encoding="utf-8")
PART = FOLDER / "cardio-bridge@.service"
PART_TEXT = PART.read_text(encoding="utf-8")
EXPOSURE = 20
"""Tenths, as `--threshold` takes them."""

Find = Callable[[str], str]


@pytest.fixture
def analyze(peer: Find) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = peer("systemd-analyze")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [program, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(params=["whole", "part"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Each unit with a program that is there; of the one for parts an instance."""
    text, name = (TEXT, UNIT.name) if request.param == "whole" else (PART_TEXT, PART.name.replace("@", "@dispatch-2"))
    path = tmp_path / name
    program = Path(sys.prefix) / "bin" / "bridge"
    path.write_text(text.replace("/opt/cardio-bridge/current/bin/bridge", str(program)), encoding="utf-8")
    return path


@pytest.mark.peer
def test_systemd_has_nothing_to_say_of_the_unit(
    analyze: Callable[..., subprocess.CompletedProcess[str]], installed: Path
) -> None:
    done = analyze("verify", installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    installed.write_text(re.sub(r"^Restart=.*", "Restart=at-will", installed.read_text(), flags=re.MULTILINE))
    assert "at-will" in analyze("verify", installed).stderr


@pytest.mark.peer
def test_the_unit_is_closed_as_far_as_it_can_be(
    analyze: Callable[..., subprocess.CompletedProcess[str]], installed: Path
) -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", installed)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert done.returncode == 0
    assert float(found[1]) <= EXPOSURE / 10
    print(found[0])
    installed.write_text(
        re.sub(r"^(SystemCall|Protect|Private|Restrict).*\n", "", installed.read_text(), flags=re.MULTILINE)
    )
    assert analyze("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", installed).returncode != 0


OWN = {
    "Description", "After", "Environment", "EnvironmentFile", "ExecStart", "Restart", "LoadCredential",
    "StateDirectory", "WorkingDirectory",
}  # fmt: skip
"""What a part has otherwise than the whole."""


def test_a_part_is_as_closed_as_the_whole() -> None:
    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if "=" in line and not line.startswith("#")]

    ours, theirs = lines(TEXT), lines(PART_TEXT)
    assert {line.partition("=")[0] for line in {*ours} ^ {*theirs}} == OWN
    assert [line for line in ours if line in theirs] == [line for line in theirs if line in ours], "in the same order"


@pytest.mark.peer
def test_shared_payloads_are_a_drop_in_that_systemd_takes(
    analyze: Callable[..., subprocess.CompletedProcess[str]], installed: Path
) -> None:
    folder = installed.with_name(f"{installed.name}.d")
    folder.mkdir()
    text = (FOLDER / "shared-payloads.conf").read_text(encoding="utf-8")
    (folder / "payloads.conf").write_text(text)
    done = analyze("verify", installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (folder / "payloads.conf").write_text(text.replace("AssertPath", "AssertPad"))
    assert "AssertPadIs" in analyze("verify", installed).stderr, "it was read"
    (place,) = confined.said(text, "ReadWritePaths")
    group = load(ROOT / "deploy" / "examples" / "group.toml", {})
    assert group.store.payload_folder.is_relative_to(place)


@pytest.mark.peer
def test_a_delay_that_grows_is_known_to_newer_systemd_alone(
    analyze: Callable[..., subprocess.CompletedProcess[str]], installed: Path
) -> None:
    installed.write_text(installed.read_text() + (FOLDER / "backoff.conf").read_text())
    version = int(analyze("--version").stdout.split()[1])
    said = re.findall(r"Unknown key (?:name )?'(\w+)'", analyze("verify", installed).stderr)
    assert said == ([] if version >= 254 else ["RestartSteps", "RestartMaxDelaySec"])


def test_f43_the_unit_waits_longer_than_the_drain() -> None:
    (seconds,) = confined.said(TEXT, "TimeoutStopSec")
    assert int(seconds.removesuffix("s")) > DRAIN + 10
    assert confined.said(TEXT, "KillMode") == ["mixed"]
    assert f"every {60 / notifying._SHARE:.0f} s" in TEXT
    assert confined.said(TEXT, "WatchdogSec") == ["60s"]


@pytest.mark.peer
def test_user_and_folders_are_made(peer: Find, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for program, *more, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "--create", "tmpfiles")):
        done = subprocess.run(
            [peer(program), *more, f"--root={root}", FOLDER / f"cardio-bridge.{name}.conf"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("Failed")) == (0, 0), done.stderr
    assert "cardio-bridge:x:" in (root / "etc" / "passwd").read_text()
    modes = {
        name: (root / name).stat().st_mode & 0o777
        for name in (
            "etc/cardio-bridge",
            "etc/cardio-bridge/credentials",
            "etc/cardio-bridge/processes",
            "var/lib/cardio-bridge",
        )
    }
    assert modes == {
        "etc/cardio-bridge": 0o750,
        "etc/cardio-bridge/credentials": 0o700,
        "etc/cardio-bridge/processes": 0o750,
        "var/lib/cardio-bridge": 0o700,
    }


def test_the_token_is_read_where_systemd_lays_it(tmp_path: Path) -> None:
    """`%d` is the folder of the unit's credentials (systemd.unit(5)); the environment wins over the file."""
    (tmp_path / "cardio-token").write_text("invented\n")
    (variable,) = [v for v in confined.said(TEXT, "Environment") if "%d" in v]
    name, _, value = variable.partition("=")
    (tmp_path / "bridge.toml").write_text('[cardio]\ntoken_file = "/nowhere"\norganization_path = "o"\n')
    found = load(tmp_path / "bridge.toml", {name: value.replace("%d", str(tmp_path))})
    assert found.cardio.read_token() == "invented"
    assert [v.partition(":")[0] for v in confined.said(TEXT, "LoadCredential")] == ["cardio-token"]


def under_the_filters(*command: str, unit: Path = UNIT) -> list[str]:
    return [sys.executable, str(Path(confined.__file__)), str(unit), *command]


@pytest.fixture
def service(tmp_path: Path, api: tuple[str, Path], peer: Find) -> Iterator[Process]:
    peer("systemd-analyze")
    address = api[0].replace("127.0.0.1", "localhost")  # so that a name is looked up
    environment = settings(tmp_path, address, BRIDGE_CONSOLE__SIGN_IN="false")
    made = Process(under_the_filters(*RUN, "run"), environment, tmp_path / "service.log")
    yield made
    made.end(signal.SIGKILL)


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_the_bridge_does_its_work_under_the_filters_of_the_unit(service: Process, tmp_path: Path) -> None:
    message = tmp_path / "order.hl7"
    message.write_bytes(order().encode())
    for path, name in ((message, "hl7"), (recording(tmp_path), "dicom")):
        sent = [*RUN, "send", str(path), "--to", service.addresses[name]]
        done = subprocess.run(sent, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    with urllib.request.urlopen(f"http://{service.addresses['console']}/metrics", timeout=30) as answer:
        families = {f.name for f in text_string_to_metric_families(answer.read().decode())}
    assert {"process_open_fds", "process_start_time_seconds"} <= families
    listed = [*RUN, "messages", "list", "--json"]
    shown = subprocess.run(listed, env=service.environment, capture_output=True, text=True, check=True, timeout=60)
    assert len(json.loads(shown.stdout)) == 2
    copied = [*RUN, "db", "backup", str(tmp_path / "copy.db")]
    subprocess.run(copied, env=service.environment, capture_output=True, check=True, timeout=60)
    assert service.end() == 0
    engine = reader_engine(load(None, service.environment).store.sqlite_path)
    with engine.connect() as conn:
        rows = listing.rows(conn)
    engine.dispose()
    assert [(row.state, row.reason) for row in rows] == [("CREATED", ""), ("CREATED", "")]


@pytest.mark.peer
def test_f28_a_message_is_tried_apart_under_the_filters_of_the_unit(peer: Find, tmp_path: Path) -> None:
    peer("systemd-analyze")
    raw = order().encode()
    one = {"kind": "hl7", "listener": "hl7", "sender": "HIS|TEST", "payload": "", "size": len(raw)}
    document = json.dumps({"settings": {}, "messages": [one]}).encode()
    apart = under_the_filters(sys.executable, "-m", "bridge.dispatch.apart")
    done = subprocess.run(apart, input=document + b"\n" + raw, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "order.hl7"
    path.write_bytes(raw)
    with path.open("rb") as file:
        given = {"settings": {}, "listener": "hl7", "calling": "", "given": [[file.fileno(), False]]}
        done = subprocess.run(
            under_the_filters(sys.executable, "-m", "bridge.rehearsal.apart", "10", str(1 << 30)),
            input=json.dumps(given).encode(), capture_output=True, check=False, timeout=60, pass_fds=[file.fileno()],
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]


def of_part(instance: str, credentials: Path, state: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that systemd makes of the unit for one instance (systemd.unit(5))."""

    def resolved(text: str) -> str:
        return text.replace("%i", instance).replace("%d", str(credentials)).replace("%S", str(state)).strip('"')

    pairs = [resolved(value).partition("=") for value in confined.said(PART_TEXT, "Environment")]
    environment = {name: value for name, _, value in pairs}
    (start,) = confined.said(PART_TEXT, "ExecStart")
    words = resolved(start).split()[1:]
    roles = words.index("$ROLES")
    words[roles : roles + 1] = environment.pop("ROLES").split()
    return words, environment


@pytest.mark.peer
@pytest.mark.timeout(400)
def test_parts_do_the_work_together_under_their_filters(
    tmp_path: Path, api: tuple[str, Path], database: sa.URL, peer: Find
) -> None:
    """Three instances of the unit on one database, with its credentials: an order in at one, its task by another."""
    peer("systemd-analyze")
    credentials, state = tmp_path / "credentials", tmp_path / "lib"
    credentials.mkdir()
    for name in (one.partition(":")[0] for one in confined.said(PART_TEXT, "LoadCredential")):
        (credentials / name).write_text(f"{secrets.token_hex(32)}\n")
    (credentials / "cardio-token").write_text("sandbox-token\n")
    toml = tmp_path / "bridge.toml"
    toml.write_text("")
    common = settings(tmp_path, api[0], BRIDGE_STORE__URL=database.render_as_string(), BRIDGE_CONSOLE__SIGN_IN="false")
    del common["BRIDGE_CARDIO__TOKEN"]
    up: dict[str, Process] = {}
    try:
        for role in ("receive", "dispatch", "console"):
            words, own = of_part(role, credentials, state)
            words[words.index("--config") + 1] = str(toml)
            (state / "cardio-bridge" / role).mkdir(parents=True)
            command = under_the_filters(*RUN, *words, unit=PART)
            up[role] = Process(command, {**common, **own}, tmp_path / f"{role}.log")
        assert {role: set(one.addresses) for role, one in up.items()} == {
            "receive": {"hl7", "dicom", "console"},
            "dispatch": {"console"},
            "console": {"console"},
        }
        message = tmp_path / "order.hl7"
        message.write_bytes(order().encode())
        told = run("send", str(message), "--to", up["receive"].addresses["hl7"], environment=common)
        assert "task=" in told, "the receiver that holds the socket hears of the dispatcher's task"
        for one in up.values():
            assert [one.asked(path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
        assert up["dispatch"].asked("/")[0] == 404
        shown = run("messages", "list", "--json", "--config", str(toml), environment=up["console"].environment)
        assert [row["state"] for row in json.loads(shown)] == ["CREATED"]
        assert {role: one.end() for role, one in up.items()} == dict.fromkeys(up, 0)
    finally:
        for one in up.values():
            one.end(signal.SIGKILL)


@pytest.mark.peer
def test_the_filters_are_in_force(peer: Find) -> None:
    """Otherwise the tests above would show nothing."""
    peer("systemd-analyze")
    tries = (
        "import os, socket, mmap, ctypes",
        "def no(work):",
        "    try: work()",
        "    except OSError: return",
        "    raise SystemExit('allowed')",
        "no(lambda: os.sched_setaffinity(0, {0}))",
        "no(lambda: socket.socket(16, 3))",
        "no(lambda: mmap.mmap(-1, 4096, prot=7))",
        "no(lambda: os.chroot('/'))",
        "assert ctypes.CDLL(None).unshare(0x10000000) == -1",
        "if os.geteuid() == 0: print(*(name for name in os.listdir('/proc') if name.isdigit()), os.getpid())",
    )
    done = subprocess.run(
        under_the_filters(sys.executable, "-c", "\n".join(tries)), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len({*done.stdout.split()}) <= 1, "of all processes it sees itself"
