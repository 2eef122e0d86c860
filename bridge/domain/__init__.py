"""Values and rules, no input or output: what a hospital and the Cardio API mean by their words."""
