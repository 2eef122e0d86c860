"""Sign-in by the provider: authorization code with PKCE, bound to the browser that began it (RFC 6749, 7636, 9700).

A browser that begins gets a cookie; what belongs to it (state, nonce, verifier) stays here and is used once. A code
that comes by another browser, or a second time, finds nothing.
"""

import base64
import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from bridge.clock import Clock
from bridge.console.access.cookies import FLOW_SECONDS
from bridge.console.access.id_token import Identity, UnknownKey, verified
from bridge.console.access.names import LONGEST, RESERVED, folded
from bridge.console.access.oidc import Provider
from bridge.console.access.sessions import Fresh, Sessions, fingerprint, fresh_secret
from bridge.console.access.signing_in import NOBODY
from bridge.console_settings import OidcSettings
from bridge.errors import BridgeError
from bridge.store import audit, people
from bridge.store.people import Person
from bridge.store.port import Store, Transaction

UNDER_WAY = 1000
"""Sign-ins that may be at the provider at once; the oldest is forgotten first."""


class NotKnownHere(BridgeError):
    """The way back from the provider leads nowhere, or whom it names may not come in."""


@dataclass(frozen=True, slots=True)
class _Flow:
    state: str
    nonce: str
    verifier: str
    onward: str
    until: float


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and the secret of its cookie."""

    address: str
    secret: str


class ProviderSignIn:
    """The way in by the provider."""

    def __init__(self, settings: OidcSettings, store: Store, sessions: Sessions, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._provider = Provider(settings, clock)
        self._flows: dict[str, _Flow] = {}

    @property
    def host(self) -> str:
        """What the provider is called on a page."""
        return urlsplit(self._settings.issuer).hostname or self._settings.issuer

    async def begin(self, onward: str) -> Begun:
        """Raises ProviderFailed where it is not there."""
        at = await self._provider.metadata()
        secret, verifier = fresh_secret(), fresh_secret()  # RFC 7636 §4.1: 43 characters of 256 bits
        flow = _Flow(fresh_secret(), fresh_secret(), verifier, onward, self._clock.monotonic() + FLOW_SECONDS)
        while len(self._flows) >= UNDER_WAY:
            del self._flows[next(iter(self._flows))]
        self._flows[fingerprint(secret)] = flow
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_url,
            "scope": self._settings.scope,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in at.authorization_endpoint else "?"
        return Begun(at.authorization_endpoint + joint + urlencode(asked), secret)

    async def finish(self, secret: str, state: str, code: str, issuer: str, *, address: str) -> tuple[Fresh, str]:
        """The session, and where its person was going. Raises NotKnownHere, ProviderFailed or TokenRefused."""
        flow = self._flows.pop(fingerprint(secret), None) if secret else None
        if flow is None or flow.until < self._clock.monotonic():
            raise NotKnownHere("this sign-in was begun elsewhere, was used already, or took too long; begin anew")
        try:
            identity = await self._identity(flow, state, code, issuer)
        except BridgeError as problem:
            why = str(problem)
            await self._store.write(lambda tx: self._refuse(tx, NOBODY, address, why))
            raise
        fresh = await self._store.write(lambda tx: self._let_in(tx, identity, address))
        self._sessions.changed()
        if fresh is None:
            raise NotKnownHere("you are known to the provider, and may not come in here; ask an admin")
        return fresh, flow.onward

    async def _identity(self, flow: _Flow, state: str, code: str, issuer: str) -> Identity:
        if not hmac.compare_digest(flow.state.encode("ascii"), state.encode("utf-8", "replace")):
            raise NotKnownHere("this sign-in was begun elsewhere; begin anew")
        if issuer and issuer != self._settings.issuer:  # RFC 9207 §2.4
            raise NotKnownHere("this answer is another provider's")
        if not code:
            raise NotKnownHere("the provider let nobody in")
        token = await self._provider.id_token(code, flow.verifier)
        return await self._verified(token, flow.nonce)

    async def _verified(self, token: str, nonce: str) -> Identity:
        now = self._clock.now()
        try:
            return verified(token, await self._provider.keys(), self._settings, nonce=nonce, now=now)
        except UnknownKey:  # it changes its keys now and then
            return verified(token, await self._provider.keys(anew=True), self._settings, nonce=nonce, now=now)

    def _let_in(self, tx: Transaction, identity: Identity, address: str) -> Fresh | None:
        at = self._clock.now()
        found = people.by_subject(tx.conn, identity.subject)
        why = "disabled" if found and found.disabled else "" if identity.role else "no group with a role"
        if why or identity.role is None:
            self._refuse(tx, found.name if found else NOBODY, address, why)
            if found:
                people.end_all(tx, found.id, at=at)
            return None
        role = identity.role.word
        if found is None:
            found = self._made(tx, identity, role)
        elif found.role != role:
            people.follow_role(tx, found, role)
            people.end_all(tx, found.id, at=at)
            detail = {"person": found.name, "before": found.role, "role": role, "by": "oidc"}
            audit.note(tx, at=at, actor=found.name, action="role_changed", detail=detail)
        audit.note(tx, at=at, actor=found.name, action="sign_in", detail={"address": address, "by": "oidc"})
        return self._sessions.begin(tx, found.id)

    def _refuse(self, tx: Transaction, actor: str, address: str, why: str) -> None:
        detail = {"address": address, "why": why, "by": "oidc"}
        at = self._clock.now()
        audit.note(tx, at=at, actor=actor, action="sign_in_refused", outcome=audit.REFUSED, detail=detail)

    def _made(self, tx: Transaction, identity: Identity, role: str) -> Person:
        """A row of its own, whose name is nobody else's: a local person stays who he is."""
        at, wish = self._clock.now(), _presentable(identity.name)
        tries = (wish, *(f"{wish} ({self.host}{n})" for n in ("", *(f" {i}" for i in range(2, 1000)))))
        name = next(n for n in tries if n not in RESERVED and people.by_name(tx.conn, n) is None)
        made = people.make(tx, name, role, at=at, subject=identity.subject)
        audit.note(tx, at=at, actor=name, action="person_made", detail={"person": name, "role": role, "by": "oidc"})
        return people.by_id(tx.conn, made)


def _presentable(name: str) -> str:
    """A name out of a claim: folded, without what does not print, and not too long; `somebody` where none is left."""
    plain = "".join(c for c in folded(name) if unicodedata.category(c)[0] in "LMN" or c in " ._-@'+")
    return " ".join(plain[:LONGEST].split()) or "somebody"
