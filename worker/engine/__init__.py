"""The engine: continuous batching over a paged K/V pool, behind `worker.engine.port`."""
