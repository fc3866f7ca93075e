"""The embedded trace store: spans in over OTLP, trees out."""
