"""The KV cache service: a second tier for K/V blocks, shared by all workers."""
