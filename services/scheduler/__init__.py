"""The batch scheduler: pulls the queue, orders it, forms batches, places them on workers."""
