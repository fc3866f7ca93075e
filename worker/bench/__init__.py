"""The bare engine under a benchmark's orders, in a process of its own."""
