"""`tokenmill bench`: one file a benchmark's command; what is measured lies in `benchmarks/`."""
