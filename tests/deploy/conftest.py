"""The whole bridge, as the acceptance tests open it."""

from tests.acceptance.conftest import house

__all__ = ["house"]
