"""Layer 1: words and rules of serving. Standard library only."""
