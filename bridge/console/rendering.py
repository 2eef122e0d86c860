"""Templates into answers: the site's times, ages in words, and what every page has."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bridge.console.access.visitor import Role, Visitor
from bridge.console.desk import Desk
from bridge.console.spark import spark

_FOLDER = Path(__file__).with_name("templates")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Pages:
    """The templates of one console."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._zone = ZoneInfo(desk.settings.site.time_zone)
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"local": self.local, "age": age, "since": self.since, "words": words}
        self._templates.globals |= {"zone": desk.settings.site.time_zone, "Role": Role, "spark": spark}

    def page(self, request: Request, name: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A page, or a part of one. Every template has `visitor` (None before the sign-in), `path` and `now`."""
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        text = self._templates.get_template(name).render(
            visitor=visitor,
            path=request.url.path,
            now=self._desk.clock.now(),
            **context,
        )
        return HTMLResponse(text, status)

    def local(self, at: datetime | str | None) -> str:
        """A moment in the site's zone, to the second; the zone stands in every page's head."""
        if not at:
            return "–"
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return moment.astimezone(self._zone).strftime("%Y-%m-%d %H:%M:%S")

    def since(self, at: datetime | str | None) -> str:
        """How long ago that was."""
        if not at:
            return "–"
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return age((self._desk.clock.now() - moment.astimezone(UTC)).total_seconds())


def age(seconds: float | timedelta | None) -> str:
    """A length of time by its two greatest units: `3 min 20 s`, `2 d 4 h`; a dash for none."""
    if seconds is None:
        return "–"
    left = max(int(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds), 0)
    parts: list[str] = []
    for length, unit in _UNITS:
        many, left = divmod(left, length)
        if many or parts:
            parts.append(f"{many} {unit}" if many else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "0 s"


def words(value: str) -> str:
    """A value's name for people: `no_match` is `no match`, `IN_DOUBT` is `in doubt`."""
    return value.replace("_", " ").lower()


def pages(request: Request) -> Pages:
    """The pages of the application that this request came to."""
    found: Pages = request.app.state.pages
    return found


OfPages = Annotated[Pages, Depends(pages)]
