"""`tokenmill tune`."""
