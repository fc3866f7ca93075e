"""Finds better settings by measurement: load, look for what limits, change one thing, compare."""
