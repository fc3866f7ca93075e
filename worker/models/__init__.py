"""From the name of a model to a directory that every process can read."""
