"""Who is at the desk, and which roles a route is for."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from fastapi import Depends, Request

from bridge.console.access.refusals import Forbidden


class Role(IntEnum):
    """Each may do what those before it may."""

    VIEWER = 1
    """Sees states, times and reasons; patients' values are masked."""
    OPERATOR = 2
    """Acts on messages, and reveals a patient's values, which is audited."""
    ADMIN = 3
    """Lets people in, and sees the settings in force."""

    @property
    def word(self) -> str:
        """As settings and pages write it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who was let in. `session` is the row that let him in; 0 where none is needed."""

    name: str
    role: Role
    session: int = 0
    is_script: bool = False  # came by a token, or by the control socket: no page is shown to it
    person: int = 0  # the row that he is; 0 where there is none

    def may(self, role: Role) -> bool:
        """Whether that role's doors are open to him."""
        return self.role >= role


def visitor(request: Request) -> Visitor:
    """The visitor that the door let in with this request. Raises Forbidden where it let nobody in."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    if found is None:
        raise Forbidden("nobody is signed in")
    return found


OfVisitor = Annotated[Visitor, Depends(visitor)]


class Needs:
    """A dependency of a route: who may use it. A route without one is for nobody; see the door."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, who: OfVisitor) -> None:
        """Raises Forbidden."""
        if not who.may(self.role):
            raise Forbidden(f"this is for the role {self.role.word}; {who.name} is {who.role.word}")


VIEWER, OPERATOR, ADMIN = (Depends(Needs(role)) for role in Role)
