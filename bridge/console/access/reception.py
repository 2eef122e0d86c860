"""Everything that decides who comes in, for the door and for the pages of the sign-in."""

from typing import Annotated

from fastapi import Depends, Request

from bridge.console.access import cookies
from bridge.console.access.attempts import Attempts
from bridge.console.access.oidc_sign_in import ProviderSignIn
from bridge.console.access.origin import Names
from bridge.console.access.passwords import Passwords
from bridge.console.access.persons import Persons
from bridge.console.access.sessions import Sessions
from bridge.console.access.set_up import SetUp
from bridge.console.access.signing_in import SigningIn
from bridge.console.access.visitor import Role, Visitor
from bridge.console.desk import Desk
from bridge.store import people


class Reception:
    """The way in of one console."""

    def __init__(self, desk: Desk, passwords: Passwords | None = None) -> None:
        settings, store, clock = desk.settings.console, desk.store, desk.clock
        passwords = passwords or Passwords()
        self.wanted = settings.sign_in
        self.is_encrypted = settings.tls is not None
        self.names = Names(settings.listen, settings.hosts)
        self.sessions = Sessions(store, settings, clock)
        self.attempts = Attempts(clock)
        self.signing_in = SigningIn(store, passwords, self.sessions, clock)
        self.persons = Persons(store, passwords, self.sessions, self.attempts, clock)
        self.provider = ProviderSignIn(settings.oidc, store, self.sessions, clock) if settings.oidc else None
        path = desk.settings.store.beside("setup-token")
        self.set_up = SetUp(path, store, passwords, self.sessions, clock)

    async def prepare(self) -> str:
        """At the start: what somebody has to do before anybody can sign in; empty where nothing."""
        return self.set_up.hint if self.wanted and await self.set_up.prepare() else ""

    def secure(self, request: Request) -> bool:
        """Whether the browser speaks TLS, to us or to a proxy in front."""
        return self.names.scheme(request.headers, request.scope["scheme"]) == "https"

    async def visitor(self, request: Request, *, is_click: bool) -> Visitor | None:
        """Who comes with this request; None where nobody is let in by it. A token that is shown is the only word."""
        if not self.wanted:
            return Visitor("local", Role.ADMIN)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            wanted = token.strip() if scheme.lower() == "bearer" else ""
            return await self.sessions.visitor_by(wanted, people.TOKEN, is_click=True) if wanted else None
        secret = cookies.SESSION.of(request, secure=self.secure(request))
        return await self.sessions.visitor_by(secret, people.BROWSER, is_click=is_click) if secret else None


def reception(request: Request) -> Reception:
    """The reception of the application that this request came to."""
    found: Reception = request.app.state.reception
    return found


OfReception = Annotated[Reception, Depends(reception)]
