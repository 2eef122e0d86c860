"""The JSON API, for sites and for `bridge messages`."""

from bridge.console.api import acts, book, messages, overview, site

API_ROUTERS = (messages.router, acts.router, overview.router, book.router, site.router)
WIDER = {"/api/map": site.MOST}
"""Bytes that a route takes where it takes more than a choice and a reason."""
