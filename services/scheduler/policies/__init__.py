"""Ways to choose a worker."""
