"""F7, F10, F11: `kill -9` at random instants, and at named crash points, while wards send again and again."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tests.campaign import crashes
from tests.campaign.judge import Post, Verdict, judge
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import Process, Stage, staged
from tests.campaign.wards import Sender, await_answer, end, sent_by

WARDS = 6
CRASHES, PATIENCE = 0.3, 4.0
"""The share of ends at a named place, and seconds for which one is waited for."""
GOES_ON = (0.05, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 2.0)
"""Seconds at the most from an answer to the kill: most fall into what is going on, some into a service at its ease."""


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round: as many kills as the time allows, then every message comes to its end."""
    began, dice = time.monotonic(), random.Random(seed)
    until = began + minutes * 60
    kills = crashed = unanswered = 0
    with staged("kill", BRIDGE_CARDIO__TIMEOUT="5") as stage:
        stage.before = "tests.campaign.crashes:armed"
        senders = [Sender(Ward(f"W{n}", seed), stage.hl7, stage.dicom) for n in range(WARDS)]
        bridge = stage.start()
        for sender in senders:
            sender.start()
        while time.monotonic() < until:
            if bridge.armed:
                crashed += ends_itself(bridge)
            else:
                # Two of three in the middle of its work, the third while it takes up what the one before left.
                if dice.random() < 2 / 3:
                    unanswered += not await_answer(senders)
                time.sleep(dice.uniform(0.0, dice.choice(GOES_ON)))
            bridge.end(signal.SIGKILL)
            kills += 1
            if kills % 100 == 0:
                say(f"{kills} kills, {sum(sender.answered for sender in senders)} letters answered")
            bridge = stage.start(**(crashes.draw(dice) if dice.random() < CRASHES else {}))
        end(senders)
        if bridge.armed:  # it would end while everything comes to its end
            bridge.end(signal.SIGKILL)
            stage.start()
        verdict = concluded(stage, senders, say)
    for _ in range(unanswered):
        verdict.against("broken", "for 30 s nobody was answered")
    verdict.counts["kills"] = kills
    verdict.counts["at_named_places"] = crashed
    return Result("kill", seed, dict(verdict.counts), time.monotonic() - began)


def ends_itself(bridge: Process) -> bool:
    """Whether it came to the place where it ends; not every place is come to in time."""
    patience = time.monotonic() + PATIENCE
    while not bridge.ended():
        if time.monotonic() > patience:
            return False
        time.sleep(0.01)
    return bridge.status == crashes.CODE


def concluded(
    stage: Stage, senders: Sequence[Sender], say: Say, *, doubts: Callable[[Sequence[Post]], int] | None = None
) -> Verdict:
    """Every message comes to its end, the bridge ends, and three journals are judged.

    `doubts` counts the answers that were lost, from the calls in the API's journal; None: nobody knows.
    """
    stage.settle()
    assert stage.bridge is not None
    ended = stage.bridge.end()
    posts = stage.api.posts()
    lost = doubts(posts) if doubts else None
    verdict = judge(
        sent_by(senders),
        stage.api.tasks(),
        stage.rows(),
        doubts=lost,
        refusals=sum(post.refused for post in (*posts, *stage.api.opened())),
    )
    if lost is not None:
        verdict.counts["answers_lost"] = lost
    if ended != 0:
        verdict.against("broken", f"at its end the service said {ended}")
    verdict.counts["replayed"] = sum(sender.replayed for sender in senders)
    say_verdict(verdict, stage, senders, say)
    return verdict


class Staged(Protocol):
    """What a verdict is said of: a stage of one bridge, or of several processes of it."""

    folder: Path
    failed_starts: int
    wrong: bool


def say_verdict(verdict: Verdict, stage: Staged, senders: Sequence[Sender], say: Say) -> None:
    """Say it; what it rests on stays where something is wrong."""
    verdict.counts["failed_starts"] = stage.failed_starts
    verdict.counts["resent"] = sum(sender.resent for sender in senders)
    say(verdict.line())
    for note in verdict.notes[:20]:
        say(note)
    stage.wrong = bool(verdict.notes)
    if stage.wrong:
        say(f"what it rests on is kept in {stage.folder}")


def doubtful(posts: Sequence[Post]) -> int:
    """Answers that the API itself lost or spoiled."""
    return sum(post.doubtful for post in posts)
