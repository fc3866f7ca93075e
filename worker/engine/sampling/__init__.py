"""How the next token of a sequence is chosen, and how likely it was."""
