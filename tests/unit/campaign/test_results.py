"""The journal of results: rounds add up, peaks do not, and what must be 0 is seen."""

from pathlib import Path

from tests.campaign.results import Result, append, read, table


def test_what_must_be_0_and_is_not_is_red() -> None:
    assert Result("kill", 1, {"acknowledged": 5, "lost": 0}, 1.0).red() == {}
    assert Result("kill", 1, {"acknowledged": 5, "lost": 2, "twice": 0}, 1.0).red() == {"lost": 2}


def test_rounds_add_up_over_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "results.jsonl"
    assert read(journal) == []
    one = Result("kill", 1, {"kills": 600, "lost": 0, "most_files": 40}, 1800.0)
    append(one, journal)
    append(Result("kill", 2, {"kills": 700, "lost": 1, "most_files": 38}, 1800.0), journal)
    append(Result("chaos", 3, {"messages": 20_000, "twice": 0}, 60.0), journal)
    assert read(journal)[0] == one
    assert table(read(journal)).splitlines()[2:] == [
        "| kill | 2 | 1.0 | kills 1,300, most files 40 | lost **1** |",
        "| chaos | 1 | 0.0 | messages 20,000 | twice 0 |",
    ]
