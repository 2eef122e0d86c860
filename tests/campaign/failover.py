"""F39: the primary dies under load and its standby takes its place, again and again. With a synchronous standby nothing
that was acknowledged is lost; with an asynchronous one something is, and the bridge says so and stands still.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.campaign.cluster import DATABASE, LATENCY, WARDS, concluded, wards
from tests.campaign.cluster_stage import ClusterStage, clustered
from tests.campaign.cluster_strikes import Strikes
from tests.campaign.failover_pair import paired
from tests.campaign.judge import Verdict, judge
from tests.campaign.results import Result, Say
from tests.campaign.stage import rows_in
from tests.campaign.wards import Sender, answered, await_answer, end, sent_by

OF_ASYNCHRONOUS = 0.25
"""The share of the time for the standby that a commit does not wait for."""
BETWEEN = 3.0
"""Seconds at the most from the first answer behind a failover to the next one."""
LAG = 1.0
"""Seconds that the asynchronous standby is behind when its primary dies."""
NOTICED = 60.0
"""Seconds within which somebody notices that the database went back."""


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round: failovers with the standby that commits wait for, then some with the other kind."""
    began, dice = time.monotonic(), random.Random(seed)
    until = began + minutes * 60
    verdict = _synchronous(dice, seed, until - minutes * 60 * OF_ASYNCHRONOUS, say)
    count = 0
    while not count or time.monotonic() < until:
        _asynchronous(verdict, seed + count, say)
        count += 1
    verdict.counts["asynchronous_failovers"] = count
    return Result("failover", seed, dict(verdict.counts), time.monotonic() - began)


def _staff(stage: ClusterStage) -> None:
    stage.api.faults([{"kind": "latency", "seconds": LATENCY}])
    for name, role in (("dispatch-0", "dispatch"), ("dispatch-1", "dispatch"), ("receive", "receive")):
        stage.start(stage.add(name, role))


def _synchronous(dice: random.Random, seed: int, until: float, say: Say) -> Verdict:
    with paired(DATABASE, synchronous=True) as pair, clustered("failover", pair.url(DATABASE)) as stage:
        _staff(stage)
        strikes = Strikes(stage, dice, None)  # of which none is drawn here: whoever ends by itself is at fault
        senders = wards(stage, seed)
        for sender in senders:
            sender.start()
        unanswered = 0
        while not strikes.counts["failovers"] or time.monotonic() < until:
            unanswered += not await_answer(senders, 60)
            time.sleep(dice.uniform(0.0, BETWEEN))
            pair.fail_over()
            time.sleep(dice.uniform(0.0, 0.5))  # commits that were under way wait for a standby that is not there yet
            pair.follow_anew()
            strikes.tend()
            strikes.counts["failovers"] += 1
            if strikes.counts["failovers"] % 5 == 0:
                say(f"{strikes.counts['failovers']} failovers, {answered(senders)} letters answered")
        end(senders)
        verdict = concluded(stage, senders, say, strikes)
    for _ in range(unanswered):
        verdict.against("broken", "for 60 s nobody was answered")
    return verdict


def _asynchronous(verdict: Verdict, seed: int, say: Say) -> None:
    """One failover to a standby that was behind: what is lost by it is counted apart, and it must not go unnoticed."""
    with paired(DATABASE, synchronous=False) as pair, clustered("failover", pair.url(DATABASE)) as stage:
        _staff(stage)
        said = _checked(stage)
        if "standby is asynchronous" not in said:
            verdict.against("broken", f"check does not warn of an asynchronous standby: {said[-300:]}")
        senders = wards(stage, seed)
        for sender in senders:
            sender.start()
        await_answer(senders, 60)
        while answered(senders) < WARDS * 2 and any(sender.is_alive() for sender in senders):
            await_answer(senders, 60)
        pair.lag(LAG)
        pair.fail_over()
        pair.follow_anew()
        noticed = _noticed(stage)
        end(senders)
        found = _counted(verdict, stage, senders)
        if not noticed:
            verdict.against("broken", f"nobody noticed that the database went back; {found} are lost")
            stage.wrong = True
        say(f"an asynchronous standby: {found} acknowledged lost, {'noticed' if noticed else 'NOT NOTICED'}")


def _noticed(stage: ClusterStage) -> bool:
    """Whether whoever was told of a commit that is gone says so and ends, and starts in quarantine."""
    patience = time.monotonic() + NOTICED
    while time.monotonic() < patience:
        for member in stage.members:
            if member.up.ended():
                lost = "store.history_lost" in stage.log_of(member).read_text()
                stage.start(member)
                quarantined = '"store.in_quarantine"' in stage.log_of(member).read_text()
                return lost and quarantined
        time.sleep(0.1)
    return False


def _counted(verdict: Verdict, stage: ClusterStage, senders: Sequence[Sender]) -> int:
    """What was lost of what was acknowledged, and what is twice: figures of the other kind of standby."""
    apart = judge(sent_by(senders), stage.api.tasks(), stage.seen(rows_in), doubts=None, refusals=0)
    lost = sum(note.endswith("is not in the store") for note in apart.notes)
    verdict.counts["asynchronous_lost"] += lost
    verdict.counts["asynchronous_twice"] += apart.counts["twice"]
    return lost


def _checked(stage: ClusterStage) -> str:
    """What `bridge check` says of the server."""
    environment = stage.environment_of(stage.members[0])
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "check"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
