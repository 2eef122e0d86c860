"""What a person may do with a message, and what he is shown before he does it."""
