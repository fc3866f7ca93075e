"""What `tokenmill bench cache` measures: eviction policies on a trace."""
