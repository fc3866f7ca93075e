"""Chat sessions: histories kept in NATS, one turn at a time, trimmed to the window."""
