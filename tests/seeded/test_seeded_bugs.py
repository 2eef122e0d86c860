"""A suite that stays green whatever is broken proves nothing: each deliberate fault turns the one named for it red.

Without a bug the same suites are green: they are part of the same run.
"""

import os
import re
import subprocess
import sys
import tempfile

import pytest

from tests.seeded.bugs import BUGS, SWITCH

BARE = ("-p", "no:cacheprovider", "-p", "no:schemathesis", "--assert=plain")
"""What a run for one red test can do without: a second and a half of each start."""
LONGEST = 250.0
"""Seconds for a run; shortly before, it says where each of its threads stands."""


def run(name: str, *suite: str) -> subprocess.CompletedProcess[str]:
    """The suite as a run of its own, with the bug planted. What it leaves behind goes with its folder."""
    with tempfile.TemporaryDirectory(prefix="seeded-", ignore_cleanup_errors=True) as folder:
        own = ("-p", "tests.seeded.bugs", "--basetemp", f"{folder}/run", "-o", f"faulthandler_timeout={LONGEST - 20}")
        command = [sys.executable, "-m", "pytest", *own, *BARE, "-q", "-x", *suite]
        given = {SWITCH: name, "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
        environment = {**os.environ, **given}
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
            )
        except subprocess.TimeoutExpired as late:
            said = b"\n".join(part for part in (late.stdout, late.stderr) if part)
            pytest.fail(f"it does not end: {said.decode(errors='replace')}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BUGS)
def test_the_suite_that_is_named_for_a_bug_goes_red(name: str) -> None:
    told = run(name, *BUGS[name].suite)
    assert (told.returncode, told.stderr) == (1, ""), told.stdout[-3000:]
    failed = re.findall(r"^(?:FAILED) (\S+)", told.stdout, re.MULTILINE)
    assert failed, "a test has to fail, and not its set-up"
    assert all(f.startswith(BUGS[name].suite[0]) for f in failed)
    print(f"{name}: {failed[0]}")
