"""The requests that this gateway owns, and their answers."""
