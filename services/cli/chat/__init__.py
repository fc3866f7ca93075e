"""`tokenmill chat`."""
