"""The doors in. Custody is taken here, before any positive answer."""
