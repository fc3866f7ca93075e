"""The gRPC doors: ours, and the Open Inference Protocol."""
