"""The container file: what it promises, and its steps done again in plain virtual environments."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.settings import load
from tests.acceptance.process import api, settings
from tests.acceptance.scene import OpenHouse
from tests.deploy.containerfile import FILE, ROOT, command, context, stages, variables

__all__ = ["api"]
BUILD, FINAL = stages(FILE.read_text(encoding="utf-8"))


def test_the_image_runs_as_nobody_in_particular_and_writes_below_its_volume() -> None:
    assert BUILD.base == FINAL.base == "docker.io/library/python:3.11-slim"
    (user,) = FINAL.all("USER")
    assert int(user.partition(":")[0]) >= 10_000
    assert FINAL.all("STOPSIGNAL") == ["SIGTERM"]
    assert FINAL.all("VOLUME") == ["/var/lib/cardio-bridge"]
    assert (command(FINAL.all("ENTRYPOINT")[0]), command(FINAL.all("CMD")[0])) == (["bridge"], ["run"])
    steps = [step for step, _ in FINAL.steps]
    assert "RUN" not in steps[steps.index("USER") :], "nothing is made by the user that runs it"
    assert FINAL.all("COPY") == ["--from=build /opt/cardio-bridge /opt/cardio-bridge"]


def test_the_builder_sees_what_is_copied_and_nothing_else() -> None:
    seen = [str(path) for path in context(ROOT)]
    sources = [word for rest in BUILD.all("COPY") for word in shlex.split(rest)[:-1]]
    for source in sources:
        assert [name for name in seen if name == source or name.startswith(f"{source}/")], source
    for name in seen:
        assert [source for source in sources if name == source or name.startswith(f"{source}/")], name
    assert not [name for name in seen if "__pycache__" in name]


def test_what_makes_the_package_is_locked_as_for_developers() -> None:
    lines = (FILE.with_name("build.lock")).read_text().split("\n", 1)[1].strip()
    locked = (ROOT / "deploy" / "requirements-dev.lock").read_text()
    assert lines.startswith("setuptools==")
    assert re.sub(r"\s+# via.*", "", locked).count(lines) == 1


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build stage leaves, below a folder in place of the root: its steps, with that folder in their paths."""
    root = tmp_path_factory.mktemp("image")
    tree = root / "context"
    for path in context(ROOT):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tree / path)
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))
    kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG"} or name.startswith("PIP_")}
    environment = {**kept, **variables(BUILD), "PATH": f"{root}/bin:/usr/bin:/bin"}
    here = root
    for step, rest in BUILD.steps:
        words = re.sub(r"(?<![\w.])/(?=(opt|build)\b)", f"{root}/", rest)
        if step == "WORKDIR":
            here = Path(words)
            here.mkdir()
        elif step == "COPY":
            _copy(tree, words)
        elif step == "RUN":
            done = subprocess.run(
                ["/bin/sh", "-c", words], cwd=here, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return root / "opt" / "cardio-bridge"


def _copy(tree: Path, words: str) -> None:
    *sources, target = shlex.split(words)
    for source in sources:
        there = Path(target) / Path(source).name if target.endswith("/") else Path(target)
        there.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (tree / source).is_dir() else shutil.copyfile)(tree / source, there)


class Installed:
    """The program of the image, started."""

    def __init__(self, image: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [image / "bin" / "bridge", *command(FINAL.all("CMD")[0])], env=environment, cwd=image.parent,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.addresses = dict(line.split() for line in iter(self.process.stdout.readline, "ready\n") if line.strip())


@pytest.fixture
def started(image: Path, tmp_path: Path, api: tuple[str, Path]) -> Iterator[Installed]:
    up = Installed(image, {"PATH": "/usr/bin:/bin", **settings(tmp_path, api[0])})
    yield up
    up.process.terminate()
    up.process.wait(100)
    assert up.process.stdout is not None
    up.process.stdout.close()


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_the_steps_make_a_bridge_that_checks_and_runs(
    image: Path, tmp_path: Path, api: tuple[str, Path], started: Installed
) -> None:
    told = subprocess.run([image / "bin" / "bridge", "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "HL7 v2 over MLLP" in told.stdout
    environment = {"PATH": "/usr/bin:/bin", **settings(tmp_path / "other", api[0])}
    (tmp_path / "other").mkdir()
    checked = subprocess.run(
        [image / "bin" / "bridge", "check"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert "answers and takes the token" in checked.stdout
    where = f"http://{started.addresses['console']}"
    for path, status in (("/healthz", 0), ("/readyz", 1)):  # alive is what it asks for
        assert _health(image, f"{where}{path}") == status
    assert not (image / "bin" / "pip").exists()


def _health(image: Path, address: str) -> int:
    check = FINAL.all("HEALTHCHECK")[0].partition("CMD ")[2]
    program, script = command(check)
    return subprocess.run(
        [image / "bin" / program, image / Path(script).name], env={"BRIDGE_HEALTH_URL": address},
        capture_output=True, check=False, timeout=60,
    ).returncode  # fmt: skip


async def test_the_health_check_says_no_where_nobody_is(house: OpenHouse) -> None:
    script = ROOT / "deploy" / "container" / "health.py"
    async with house() as it:
        address = it.up.addresses["console"]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, script],
        env={"BRIDGE_HEALTH_URL": f"http://{address}/healthz"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "not alive: URLError\n")


def test_the_settings_of_the_image_are_where_it_looks() -> None:
    assert variables(FINAL)["BRIDGE_CONFIG"] == "/etc/cardio-bridge/bridge.toml"
    own = load(ROOT / "deploy" / "container" / "bridge.toml", {})
    (volume,) = FINAL.all("VOLUME")
    assert str(own.store.sqlite_path).startswith(f"{volume}/")
    assert str(own.store.payloads).startswith(f"{volume}/")
    ports = {listen.rpartition(":")[2] for listen in (own.hl7.listen, own.dicom.listen, own.console.listen)}
    assert ports == set(FINAL.all("EXPOSE")[0].split())
