"""The lean path on an NVIDIA GPU: paged attention of torch itself, one graph per batch size."""
