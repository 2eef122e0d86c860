"""What the console answers instead of a page."""

from bridge.errors import BridgeError


class Forbidden(BridgeError):
    """Somebody is known, and may not."""


class NotThere(BridgeError):
    """There is no such message, patient or page."""
