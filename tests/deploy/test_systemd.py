"""The unit: what systemd says of it, and the bridge under its system call filters."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
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

__all__ = ["api"]
FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "cardio-bridge.service"
TEXT = UNIT.read_text(encoding="utf-8")
RUN = [sys.executable, "-c", "from bridge.cli import main; main()"]
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


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    path = tmp_path / UNIT.name
    program = Path(sys.prefix) / "bin" / "bridge"
    path.write_text(TEXT.replace("/opt/cardio-bridge/current/bin/bridge", str(program)), encoding="utf-8")
    return path


@pytest.mark.peer
def test_systemd_has_nothing_to_say_of_the_unit(
    analyze: Callable[..., subprocess.CompletedProcess[str]], installed: Path
) -> None:
    done = analyze("verify", installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    installed.write_text(installed.read_text().replace("Restart=on-failure", "Restart=at-will"))
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
        for name in ("etc/cardio-bridge", "etc/cardio-bridge/credentials", "var/lib/cardio-bridge")
    }
    assert modes == {
        "etc/cardio-bridge": 0o750,
        "etc/cardio-bridge/credentials": 0o700,
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


class Confined:
    """`bridge run` under the unit's filters, and its addresses."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.environment = {**os.environ, **environment}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                under_the_filters(*RUN, "run"), env=self.environment, stdout=subprocess.PIPE, stderr=out, text=True
            )
        self.addresses: dict[str, str] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, _, address = line.strip().partition(" ")
            if name == "ready":
                return
            self.addresses[name] = address
        self.process.stdout.close()
        self.process.wait(30)
        pytest.fail(f"it did not start: {log.read_text()[-2000:]}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(100)


def under_the_filters(*command: str) -> list[str]:
    return [sys.executable, str(Path(confined.__file__)), str(UNIT), *command]


@pytest.fixture
def service(tmp_path: Path, api: tuple[str, Path], peer: Find) -> Iterator[Confined]:
    peer("systemd-analyze")
    address = api[0].replace("127.0.0.1", "localhost")  # so that a name is looked up
    made = Confined(settings(tmp_path, address, BRIDGE_CONSOLE__SIGN_IN="false"), tmp_path / "service.log")
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait(30)


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_the_bridge_does_its_work_under_the_filters_of_the_unit(service: Confined, tmp_path: Path) -> None:
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
    )
    done = subprocess.run(
        under_the_filters(sys.executable, "-c", "\n".join(tries)), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
