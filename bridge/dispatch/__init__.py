"""The door out: understand → match → upload → create → settle."""
