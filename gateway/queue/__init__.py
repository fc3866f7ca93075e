"""Requests into the queue, and what schedulers say of it."""
