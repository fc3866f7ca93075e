"""Which block goes first when room is needed."""
