"""A bounded memory of what happened lately."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Recent(Generic[K]):
    """Remembers the last max_size keys; the oldest are forgotten."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._keys: dict[K, None] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._keys

    def add(self, key: K) -> None:
        """Remembers; a key that is known already becomes the newest."""
        self._keys.pop(key, None)
        self._keys[key] = None
        if len(self._keys) > self._max_size:
            del self._keys[next(iter(self._keys))]
