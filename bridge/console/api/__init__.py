"""The JSON API, for sites and for `bridge messages`."""
