"""What the cluster does now, in a terminal."""
