"""The HTTP door: pure ASGI on Starlette's router, msgspec on the wire."""
