"""`tokenmill cache`."""
