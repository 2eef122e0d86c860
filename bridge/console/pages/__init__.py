"""One file a page. Every page works without script, and every action is a plain POST."""

from bridge.console.pages import overview

ROUTERS = (overview.router,)
