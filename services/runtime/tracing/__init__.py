"""Which spans of a process are kept, and how they wait until that is known."""
