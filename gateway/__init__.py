"""The gateway: the only door, and the owner of every request that came through it."""
