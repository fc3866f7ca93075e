"""How fast the scheduler is: single decisions, and requests through a real broker."""
