"""What became of a message, stage by stage, as its page shows it; masked where it is not revealed."""
