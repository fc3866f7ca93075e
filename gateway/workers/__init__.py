"""The gateway's end of the workers' streams."""
