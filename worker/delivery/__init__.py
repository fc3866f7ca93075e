"""Attempts at requests, and their tokens on the way to the gateways that own them."""
