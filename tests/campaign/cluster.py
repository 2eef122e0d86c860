"""F39, F40: four dispatchers and two receivers on one PostgreSQL, killed, frozen for longer than their lease, and ended
in good order, while the database is restarted and wards send again and again, to one door or the other.
"""

import contextlib
import random
import shutil
import signal
import time
from collections.abc import Sequence

from tests import postgres_server
from tests.campaign.cluster_judge import doubts_in, explained, in_order
from tests.campaign.cluster_stage import ClusterStage, clustered
from tests.campaign.cluster_strikes import Strikes
from tests.campaign.cluster_wards import Roaming
from tests.campaign.judge import Verdict, judge
from tests.campaign.kill import say_verdict
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import rows_in
from tests.campaign.wards import Sender, answered, end, sent_by
from tests.postgres_server import Server

DISPATCHERS, RECEIVERS = 4, 2
WARDS, BEDS = 10, 50
"""Ten wards of fifty: 500 patients."""
LATENCY = 0.03
"""Seconds that the API needs for a call, so that most strikes find something under way."""
PAUSE = 1.5
"""Seconds at the most between two strikes."""
PATIENCE = 4.0
"""Seconds for which a ward waits for an answer; then it sends again, to the other door as it may be."""
LEAST = 120.0
"""Seconds that the shortest round may take until each ward was answered once, as it were."""
SILENCE = 60.0
"""Seconds in which somebody is answered, whoever was struck."""
DATABASE = "bridge"


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round: as many strikes as the time allows, then every message comes to its end."""
    began, dice = time.monotonic(), random.Random(seed)
    with (
        postgres_server.running() as server,
        clustered("cluster", server.database(DATABASE)) as stage,
    ):
        verdict = _round(stage, server, dice, seed, began + minutes * 60, say)
    return Result("cluster", seed, dict(verdict.counts), time.monotonic() - began)


def _round(stage: ClusterStage, server: Server, dice: random.Random, seed: int, until: float, say: Say) -> Verdict:
    def restart(mode: str) -> None:
        server.stop(mode)
        server.start()

    stage.api.faults([{"kind": "latency", "seconds": LATENCY}])
    for number in range(DISPATCHERS):
        stage.add(f"dispatch-{number}", "dispatch")
    for number in range(RECEIVERS):
        stage.add(f"receive-{number}", "receive")
    for member in stage.members:
        stage.start(member)
    strikes = Strikes(stage, dice, restart)
    senders = wards(stage, seed)
    for sender in senders:
        sender.start()
    told, least = time.monotonic(), time.monotonic() + LEAST
    heard = (0, told)  # how many were answered when somebody was answered last, and when that was
    while time.monotonic() < until or (answered(senders) < WARDS and time.monotonic() < least):
        time.sleep(dice.uniform(0.1, PAUSE))
        strikes.one()
        now, count = time.monotonic(), answered(senders)
        heard = (count, now) if count > heard[0] else heard
        if now - heard[1] > SILENCE:
            strikes.unexplained.append(f"for {SILENCE:g} s nobody was answered")
            break
        if now > told + 30:
            told = now
            say(f"{count} letters answered, {dict(strikes.counts)}")
    strikes.over()
    end(senders)
    verdict = concluded(stage, senders, say, strikes)
    if stage.wrong:
        keep_dump(server, stage)
    return verdict


def wards(stage: ClusterStage, seed: int) -> list[Sender]:
    """Who sends, to any of the doors."""
    doors = [(member.hl7, member.dicom) for member in stage.members if member.takes_in]
    return [Roaming(Ward(f"W{n}", seed, beds=BEDS), doors, patience=PATIENCE) for n in range(WARDS)]


def concluded(
    stage: ClusterStage, senders: Sequence[Sender], say: Say, strikes: Strikes, *, orderly: bool = True
) -> Verdict:
    """Every message comes to its end, every process ends, and three journals are judged."""
    stage.settle()
    for member in stage.members:
        member.up.end(signal.SIGTERM)
    sent, tasks, rows = sent_by(senders), stage.api.tasks(), stage.seen(rows_in)
    refusals = sum(post.refused for post in (*stage.api.posts(), *stage.api.opened()))
    verdict = judge(sent, tasks, rows, doubts=None, refusals=refusals)
    if orderly:
        in_order(verdict, sent, tasks, rows)
    explained(verdict, stage.seen(doubts_in), {**stage.struck, **stage.acts()})
    strikes.judged(verdict)
    verdict.counts["patients"] = len({one.person.ids for one in sent})
    say_verdict(verdict, stage, senders, say)
    return verdict


def keep_dump(server: Server, stage: ClusterStage) -> None:
    """The database beside the logs of what went wrong."""
    made = server.folder / "dump.sql"
    with contextlib.suppress(RuntimeError):
        where = ("-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres")
        server.run("pg_dump", *where, "-f", str(made), DATABASE)
        shutil.copy(made, stage.folder / "database.sql")
