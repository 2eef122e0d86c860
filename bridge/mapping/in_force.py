"""The rules in force, by listener."""

from pathlib import Path

from bridge.mapping.rules import Rules, load_rules
from bridge.settings import Settings, read_toml


def rules_in_force(settings: Settings) -> dict[str, Rules]:
    """The rules of each listener: its own file, else the site's. Raises SettingsError that names file and key."""
    site = load_rules(settings.mapping_document(), name=settings.mapping.file or "defaults")
    made: dict[str, Rules] = {}
    for name, listener in settings.hl7.all().items():
        own = listener.mapping
        made[name] = load_rules(read_toml(Path(own), setting=f"{name}.mapping"), name=own) if own else site
    return made
