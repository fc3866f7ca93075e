"""`tokenmill logs`: what all processes of a cluster say, in order of time."""
