"""The channels that the settings have, ready to tell."""

from bridge.clock import Clock
from bridge.dispatch.alarms.announcing import Channel
from bridge.dispatch.alarms.mail import Mail
from bridge.dispatch.alarms.webhook import Webhook
from bridge.settings import Settings


def channels_for(settings: Settings, clock: Clock) -> dict[str, Channel]:
    """Each by its name. Raises SettingsError that names what cannot be used."""
    found: dict[str, Channel] = {}
    if settings.alarms.webhook is not None:
        found["webhook"] = Webhook(settings.alarms.webhook, clock)
    if settings.alarms.mail is not None:
        found["mail"] = Mail(settings.alarms.mail, settings.site.time_zone)
    return found
