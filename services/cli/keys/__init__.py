"""`tokenmill keys`, `tenants` and `usage`."""
