"""Several processes in one place of payloads, killed at any instant, and an object longer than memory (F6, A1)."""

import contextlib
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.payload_process import BLOCK, LONG, SAME
from tests.contract.payload_scenes import KINDS, Scene, make_old, read

MOST = 72 << 10
"""KiB that a long object may cost: two parts of 16 MiB in hand, what a client keeps of one, and a little."""


@contextlib.contextmanager
def process(scene: Scene, mode: str) -> Iterator["subprocess.Popen[str]"]:
    """One that is ready, and begins with the next line that it is sent."""
    command = [sys.executable, "-m", "tests.contract.payload_process", mode]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[2]) as made:
        assert made.stdin is not None
        assert made.stdout is not None
        try:
            made.stdin.write(f"{scene.settings.model_dump_json()}\n")
            made.stdin.flush()
            assert made.stdout.readline() == "ready\n"
            yield made
        finally:
            made.kill()


def go(made: "subprocess.Popen[str]") -> None:
    assert made.stdin is not None
    made.stdin.write("go\n")
    made.stdin.flush()


@pytest.mark.parametrize("scene", KINDS[1:], indirect=True)
def test_f9_processes_that_keep_the_same_contents_at_once_all_have_them(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(process(scene, "same")) for _ in range(3)]
        for one in several:
            go(one)
        told = [one.communicate(timeout=100)[0].split() for one in several]
        assert [one.returncode for one in several] == [0, 0, 0]
    assert told[0] == told[1] == told[2]
    assert sorted(scene.names()) == sorted(told[0])
    assert len(told[0]) == SAME
    payloads = scene.process()
    assert list(payloads.spool.iterdir()) == []
    for name in told[0]:
        assert hashlib.sha256(read(payloads, name)).hexdigest() == Path(name).stem


def test_f6_a_kill_at_any_instant_leaves_what_was_told_and_nothing_that_is_wrong(scene: Scene) -> None:
    dice = random.Random(20)
    told: set[str] = set()
    for _ in range(5):
        with process(scene, "ever") as made:
            assert made.stdout is not None
            go(made)
            told.add(made.stdout.readline().strip())  # it is in the midst of it
            time.sleep(dice.random() / 10)
            made.kill()
            told |= {line.strip() for line in made.stdout if line.endswith(".dcm\n")}
        payloads = scene.process()
        if not scene.is_alone:
            make_old(payloads)
        payloads.sweep(told.__contains__)
        assert list(payloads.spool.iterdir()) == []
        there = set(scene.names())
        assert there >= told
        assert len(there - told) <= (0 if scene.is_alone else 1), "one was in hand"
        for name in there:
            assert hashlib.sha256(read(payloads, name)).hexdigest() == Path(name).stem
        payloads.waste(told.__contains__, older=-1)
        assert set(scene.names()) == told


def test_a_long_object_is_never_in_memory(scene: Scene) -> None:
    with process(scene, "long") as made:
        go(made)
        found = json.loads(made.communicate(timeout=110)[0])
    assert found["size"] == LONG * BLOCK
    before, kept, fetched = found["peaks"]
    assert kept - before < MOST, found
    assert fetched - before < MOST, found
    print(scene.kind, found)
