"""Weights in few bits: formats, how values are rounded into them, and files that hold them."""
