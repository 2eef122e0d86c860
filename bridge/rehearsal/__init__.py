"""What would come of it, and what is lacking: looked at by commands and pages, with nothing sent and nothing kept."""
