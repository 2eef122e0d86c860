"""`python -m tests.interface`: writes the made parts of the pages in `deploy/` anew.

The pages are for the engineers of the other side. Their tables and examples come from the code and from a run of the
bridge; a test fails where a page and the code are not of one mind.
"""

import asyncio
import tempfile
from pathlib import Path

import structlog.testing

from tests.interface import alarm_page, conformance, rules_file, runbook_page, settings_page, situations, tables
from tests.interface.page import PAGE, filled


async def made(folder: Path) -> dict[str, str]:
    """Every part by its name."""
    seen = await situations.run(folder)
    return {
        **{name: table() for name, table in tables.PARTS.items()},
        "answers": situations.answers(seen),
        **situations.examples(seen),
    }


def main() -> None:
    """Write the pages where they differ."""
    with tempfile.TemporaryDirectory() as folder, structlog.testing.capture_logs():
        parts = asyncio.run(made(Path(folder)))
    _write(PAGE, parts)
    for page in (conformance, alarm_page, rules_file, settings_page, runbook_page):
        _write(page.PAGE, {name: table() for name, table in page.PARTS.items()})


def _write(page: Path, parts: dict[str, str]) -> None:
    before = page.read_text(encoding="utf-8")
    after = filled(before, parts)
    page.write_text(after, encoding="utf-8")
    print(f"{page.name}: {'as it was' if after == before else 'written anew'}")


if __name__ == "__main__":
    main()
