"""Where the time of one request went, as parts that sum to it."""
