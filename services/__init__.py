"""Shared layers, the tokenizer and scheduler processes, and the command line."""
