"""`bridge lint`: what a message or an object violates, in words to send to its vendor."""

import sys
from pathlib import Path

import click

SEVERITIES = {"E": "error", "W": "warning", "I": "info"}
COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


@click.command("lint")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(files: tuple[Path, ...]) -> None:
    """Conformance report of HL7 messages (by hl7apy's tables) and DICOM ECG objects.

    A message with errors here may still be taken: the bridge is more tolerant than the standard. Exit status 1
    where any file has an error.
    """
    errors = 0
    for path in files:
        findings = _findings(path)
        errors += sum(severity == "error" for severity, _, _ in findings)
        click.echo(click.style(str(path), bold=True) + ("" if findings else ": nothing to report"))
        for severity, where, text in findings:
            click.echo(f"  {click.style(f'{severity:<8}', fg=COLOURS[severity])} {where:<14} {text}")
    sys.exit(1 if errors else 0)


def _findings(path: Path) -> list[tuple[str, str, str]]:
    with path.open("rb") as file:
        head = file.read(132)
    if b"MSH" in head[:16] or head[:3] in {b"FHS", b"BHS"}:
        from bridge.formats.hl7.lint import lint

        return [(f.severity, f.where, f.text) for f in lint(path.read_bytes())]
    from bridge.formats.dicom.lint import lint_object

    return [(SEVERITIES[severity], where, text) for severity, where, text in lint_object(path)]
