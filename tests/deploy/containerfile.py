"""The container file, read: its stages and steps, as far as it uses the language (Dockerfile reference)."""

import fnmatch
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "container" / "Containerfile"
KNOWN = {
    "FROM", "WORKDIR", "ENV", "RUN", "COPY", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
    "CMD",
}  # fmt: skip


@dataclass
class Stage:
    """One FROM and its steps, in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What follows each step of that kind."""
        return [rest for step, rest in self.steps if step == word]


def stages(text: str) -> list[Stage]:
    """Raises KeyError for a step that nobody knows here."""
    found: list[Stage] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word not in KNOWN:
            raise KeyError(word)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((word, rest))
    return found


def variables(stage: Stage) -> dict[str, str]:
    """What ENV sets."""
    return dict(pair.split("=", 1) for rest in stage.all("ENV") for pair in shlex.split(rest))


def command(text: str) -> list[str]:
    """The words of a step in its exec form."""
    words: list[str] = json.loads(text)
    return words


def context(folder: Path) -> Iterator[Path]:
    """What the builder gets to see of the tree: .dockerignore, of which the last line that fits decides."""
    lines = [x for x in (folder / ".dockerignore").read_text().splitlines() if x and not x.startswith("#")]
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith((".venv/", ".git/")) and _seen(name, lines):
            yield path.relative_to(folder)


def _seen(name: str, lines: list[str]) -> bool:
    seen = True
    for line in lines:
        pattern = line.removeprefix("!").replace("**/", "*/")
        parts = name.split("/")
        heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if any(fnmatch.fnmatchcase(head, pattern) for head in heads):
            seen = line.startswith("!")
    return seen
