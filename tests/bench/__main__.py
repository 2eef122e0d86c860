"""`make bench`: everything in one run on this machine, each figure as a ratio with a peer of the same run.

Bars are those that the project has set itself; a figure below its bar is printed as such, not hidden.
`python -m tests.bench.cost` says where the CPU of one message goes.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from tests.bench import cluster, console, dicom, dicom_reader, hl7, holter, pictures, transcode
from tests.bench.report import row


def fdatasync_rate() -> float:
    """Durable writes/s of this disk, the measure that every durable figure stands beside."""
    with tempfile.NamedTemporaryFile(dir=".") as file:
        began = time.perf_counter()
        for _ in range(500):
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
        return 500 / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000, help="HL7 messages a case")
    parser.add_argument("--backlog", type=int, default=1000, help="orders of the backlog; 0 leaves it out")
    parser.add_argument("--objects", type=int, default=200, help="DICOM objects a case; 0 leaves DICOM out")
    parser.add_argument(
        "--only",
        choices=["hl7", "cluster", "console", "reader", "dicom", "holter", "transcode", "pictures"],
        help="one of them",
    )
    parser.add_argument("--hours", type=float, default=24.0, help="length of the long Holter; 0 leaves it out")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    row("4 KB appended and fdatasynced", f"{fdatasync_rate():.0f}/s")
    # never deleted between the cases: mass deletion slows the creation of files down for half a minute
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as scratch:
        for name, work in (
            ("hl7", lambda f: hl7.bench(f, given.messages, given.backlog)),
            ("cluster", lambda f: cluster.bench(f, given.messages)),
            ("reader", dicom_reader.bench),
            ("dicom", lambda f: dicom.bench(f, given.objects)),
            ("holter", lambda f: holter.bench(f, given.hours)),
            ("transcode", transcode.bench),
            ("console", console.bench),
            ("pictures", pictures.bench),
        ):
            if given.only not in {None, name} or (name in {"dicom", "holter"} and not given.objects):
                continue
            folder = Path(scratch).resolve() / name
            folder.mkdir()
            work(folder)


if __name__ == "__main__":
    main()
