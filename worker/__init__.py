"""The worker process: the engine, and its gRPC ends."""
