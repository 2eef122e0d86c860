"""One file a page. Every page works without script, and every action is a plain POST."""

from bridge.console.pages import (
    account,
    alarms,
    ecg,
    mapping,
    message,
    message_acts,
    messages,
    orders,
    overview,
    patients,
    people,
    settings,
    sign_in,
    sign_in_oidc,
    work,
)

ROUTERS = (
    overview.router,
    messages.router,
    message.router,
    message_acts.router,
    ecg.router,
    work.router,
    patients.router,
    orders.router,
    mapping.router,
    settings.router,
    alarms.router,
    sign_in.router,
    sign_in_oidc.router,
    account.router,
    people.router,
)
WIDER: dict[str, int] = {**mapping.WIDER}
"""Bytes that a page takes where it takes more than a form, by its address."""
