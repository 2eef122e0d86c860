"""A7, A1, F6, F7: the power is cut at random instants while wards send; what was acknowledged is there afterwards.

The bridge's store and payloads lie on a `cutting_fs`, which keeps what was synced and loses the rest, or, by its leak,
any part of the rest. The disk's process and the bridge are killed together, the disk is mounted again, the bridge
starts on what there is. The API and the wards are other machines: they stay up.
"""

import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from bridge.store.schema import message
from bridge.store.sqlite import reader_engine
from tests.campaign.judge import Verdict
from tests.campaign.kill import concluded
from tests.campaign.letters import Ward
from tests.campaign.powercut_wire import unmount
from tests.campaign.results import Result, Say
from tests.campaign.stage import NotUp, Stage, staged
from tests.campaign.wards import Sender, answered, await_answer, end

WARDS = 6
LEAKS = (0.0, 0.0, 0.02, 0.3, 0.9)
"""Shares of unsynced changes that reach the disk unasked, drawn for each stretch between two cuts."""
LAYOUTS = (("var/bridge.db", "var/payloads"), ("db/bridge.db", "files/of/payloads"))
"""Where store and payloads lie on the disk: in one folder, as by default, or apart."""


class Power:
    """A mounted disk that can lose its power. Raises OSError where nothing can be mounted."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="campaign-disk-")
        self._durable = Path(self._folder.name) / "durable"
        self.mount = Path(self._folder.name) / "mount"
        self._durable.mkdir()
        self.mount.mkdir()
        self._process: subprocess.Popen[str] | None = None

    def on(self, leak: float, seed: object) -> None:
        """Mount what is durable."""
        command = [sys.executable, "-m", "tests.campaign.powercut_wire", str(self._durable), str(self.mount)]
        command += ["--leak", str(leak), "--seed", str(seed)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "mounted\n":
            raise OSError(self._process.communicate()[1].strip().rpartition("\n")[2])

    def cut(self) -> None:
        """Everything that was not synced is gone."""
        if self._process is not None:
            self._process.kill()

    def off(self) -> None:
        """After a cut: nothing is mounted any more."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
            unmount(self.mount)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self.off()
        self._folder.cleanup()


def run(
    seed: int,
    minutes: float,
    say: Say,
    *,
    most: int = 10**9,
    leaks: Sequence[float] = LEAKS,
    sabotage: str = "",
    **settings: str,
) -> Result:
    """One round: as many cuts as the time allows, `most` at the most, then every message comes to its end.

    `sabotage` names a function of `powercut_sabotage` that spoils the bridge first: the verdict must then be red.
    `settings` are further ones of the bridge, as its environment has them.
    """
    began, dice = time.monotonic(), random.Random(f"powercut {seed}")
    until = began + minutes * 60
    before = f"tests.campaign.powercut_sabotage:{sabotage}" if sabotage else ""
    database, payloads = dice.choice(LAYOUTS)
    with Power() as power:
        places = {
            "BRIDGE_STORE__URL": f"sqlite:///{power.mount}/{database}",
            "BRIDGE_STORE__PAYLOADS": f"{power.mount}/{payloads}",
            **settings,
        }
        with staged("powercut", BRIDGE_CARDIO__TIMEOUT="5", **places) as stage:
            stage.store = power.mount / database
            senders = [Sender(Ward(f"W{n}", seed), stage.hl7, stage.dicom) for n in range(WARDS)]
            verdict = _round(power, stage, senders, dice, until, most, leaks, before, say)
            stage.wrong = bool(verdict.notes) and not sabotage  # what was spoiled on purpose is not kept
    return Result("powercut", seed, dict(verdict.counts), time.monotonic() - began)


def _round(
    power: Power,
    stage: Stage,
    senders: list[Sender],
    dice: random.Random,
    until: float,
    most: int,
    leaks: Sequence[float],
    before: str,
    say: Say,
) -> Verdict:
    cuts = unanswered = 0
    power.on(dice.choice(leaks), dice.random())
    stage.before = before or stage.before
    stage.start()
    for sender in senders:
        sender.start()
    while time.monotonic() < until and cuts < most:
        # Two of three in the middle of its work, the third while it takes up what the cut before left.
        if dice.random() < 2 / 3:
            unanswered += not await_answer(senders)
        time.sleep(dice.uniform(0.0, 0.3))
        _cut(power, stage, first=dice.random() < 0.5)
        cuts += 1
        if cuts % 50 == 0:
            say(f"{cuts} cuts, {answered(senders)} letters answered")
        power.on(dice.choice(leaks), dice.random())
        try:
            stage.start()
        except NotUp as problem:
            end(senders)
            return _dead(cuts, f"after cut {cuts} it did not start: {problem}", say)
        if why := stage.quarantined():
            end(senders)
            return _dead(cuts, f"after cut {cuts} it takes its store for an older copy: {why}", say)
    end(senders)
    if damaged := _damaged(stage.store, Path(stage.environment["BRIDGE_STORE__PAYLOADS"])):
        whole = ", ".join(damaged)
        return _dead(cuts, f"{len(damaged)} payloads are not there, or not what they were: {whole}", say)
    verdict = concluded(stage, senders, say)
    verdict.counts.update(cuts=cuts)
    for _ in range(unanswered):
        verdict.against("broken", "for 30 s nobody was answered")
    return verdict


def _cut(power: Power, stage: Stage, *, first: bool) -> None:
    """Both at once, as far as two signals can be; the disk first, or the bridge."""
    assert stage.bridge is not None
    if first:
        power.cut()
        stage.bridge.end(signal.SIGKILL)
    else:
        stage.bridge.end(signal.SIGKILL)
        power.cut()
    power.off()


def _dead(cuts: int, why: str, say: Say) -> Verdict:
    """A bridge that does not come up with all that it had committed has lost it."""
    verdict = Verdict()
    verdict.counts.update(cuts=cuts)
    verdict.against("lost", why)
    say(why)
    return verdict


def _damaged(store: Path, payloads: Path) -> list[str]:
    """Payloads that a row rests on and whose file is missing, or holds something else."""
    engine = reader_engine(store)
    with engine.connect() as conn:
        names = conn.execute(sa.select(message.c.payload).where(message.c.payload.is_not(None))).scalars().all()
    engine.dispose()
    return [name for name in names if not _is_whole(payloads / name)]


def _is_whole(path: Path) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    except OSError:
        return False
