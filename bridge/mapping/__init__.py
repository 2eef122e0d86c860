"""What a task's fields are made of: the site's rules over our defaults, a trace for every field, the match. Pure."""
