"""The cookies of the console, for this host alone (RFC 6265bis §4.1.3): no script reads them."""

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

FLOW_SECONDS = 600
"""How long a sign-in by the provider may take."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """One of ours. With TLS its name has `__Host-` in front: browsers take it from this host only, and encrypted."""

    plain: str
    same_site: Literal["strict", "lax"]
    seconds: int | None = None  # none: until the browser ends

    def name(self, *, secure: bool) -> str:
        """Its name on the wire."""
        return f"__Host-{self.plain}" if secure else self.plain

    def of(self, request: Request, *, secure: bool) -> str:
        """What the browser sent; empty where nothing."""
        return request.cookies.get(self.name(secure=secure), "")

    def put(self, response: Response, value: str, *, secure: bool) -> None:
        """Leave it with the browser."""
        response.set_cookie(
            self.name(secure=secure),
            value,
            max_age=self.seconds,
            path="/",
            secure=secure,
            httponly=True,
            samesite=self.same_site,
        )

    def take(self, response: Response, *, secure: bool) -> None:
        """Take it away."""
        name = self.name(secure=secure)
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite=self.same_site)


SESSION = Cookie("bridge-session", "strict")
FLOW = Cookie("bridge-sign-in", "lax", FLOW_SECONDS)
"""A sign-in under way at the provider, whose page sends the browser back here: Strict would not come along."""
