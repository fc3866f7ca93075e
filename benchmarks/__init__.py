"""What `tokenmill bench` runs."""
