"""Nothing is open that was not opened: what may be asked for without sign-in, and that every other route says whom it
is for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute, Mount

from bridge.console.access.visitor import Needs, Role

_HEALTH = frozenset({"/healthz", "/readyz", "/metrics"})
_SIGN_IN = frozenset({"/sign-in", "/sign-in/oidc", "/sign-in/oidc/back", "/set-up"})
STATIC = "/static"
FOR_ANYBODY_SIGNED_IN = frozenset({"/api/openapi.json"})
"""Routes that are FastAPI's own and take no dependency of ours: the door asks for a visitor, as before any other."""


def is_open(path: str) -> bool:
    """Whether a path is there for whoever comes: health, the way in, and what its pages are drawn with."""
    return path in _HEALTH or path in _SIGN_IN or path.startswith(STATIC + "/")


def is_health(path: str) -> bool:
    """Whether it is for machines that look whether the service is well; that looks into the store."""
    return path in _HEALTH


def is_way_in(path: str) -> bool:
    """Whether it is a page of the sign-in, which wants to know whether somebody is signed in already."""
    return path in _SIGN_IN


@dataclass(frozen=True, slots=True)
class Way:
    """One route: where, how, and the least role that it is for; None where it is for whoever comes."""

    path: str
    methods: frozenset[str]
    role: Role | None


def ways(routes: Sequence[BaseRoute]) -> list[Way]:
    """Every route of an application. Raises RuntimeError for one that is not open and says not whom it is for."""
    found: list[Way] = []
    for path, route, dependencies in _each(routes, "", ()):
        methods = frozenset(getattr(route, "methods", None) or {"GET"})
        roles = [d.dependency.role for d in dependencies if isinstance(d.dependency, Needs)]
        if is_open(path) or (isinstance(route, Mount) and path == STATIC):
            found.append(Way(path, methods, None))
        elif roles or path in FOR_ANYBODY_SIGNED_IN:
            found.append(Way(path, methods, max(roles, default=Role.VIEWER)))
        else:
            raise RuntimeError(f"{'/'.join(sorted(methods))} {path} says not which role it is for (access.visitor)")
    return found


def _each(
    routes: Sequence[BaseRoute], prefix: str, inherited: tuple[Any, ...]
) -> Iterator[tuple[str, BaseRoute, tuple[Any, ...]]]:
    """Routes with their path and dependencies; FastAPI keeps a router that was included as one entry."""
    for route in routes:
        inner: Any = getattr(route, "original_router", None)
        if inner is None:
            own = getattr(route, "dependencies", ())
            yield prefix + str(getattr(route, "path", "")), route, (*inherited, *own)
        else:
            context: Any = getattr(route, "include_context", None)
            more = (*inherited, *getattr(context, "dependencies", ()))
            yield from _each(inner.routes, prefix + getattr(context, "prefix", ""), more)
