"""Guesses of how a sequence goes on, made from its own tokens and verified in the next step."""
