"""The JSON API, for sites and for `bridge messages`."""

from bridge.console.api import acts, messages, overview

API_ROUTERS = (messages.router, acts.router, overview.router)
