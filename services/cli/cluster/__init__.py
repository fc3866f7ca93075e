"""A cluster of local processes: what to start, and keeping it alive."""
