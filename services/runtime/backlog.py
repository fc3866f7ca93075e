"""Work that waits behind everything else, bounded by its bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """First in, first out, one at a time. Lives on the event loop, but for `has_room`.

    Args:
        max_bytes: of what waits and of what is being worked on.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._size_bytes = 0
        self._has_work = asyncio.Event()
        self._is_done = asyncio.Event()
        self._is_done.set()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many more bytes would be taken. From any thread."""
        return self._size_bytes + num_bytes <= self._max_bytes

    def add(self, item: T, size_bytes: int) -> bool:
        """Takes an item for `run`, or not: then there is no room, and False is returned."""
        if not self.has_room(size_bytes):
            return False
        self._items.append((item, size_bytes))
        self._size_bytes += size_bytes
        self._has_work.set()
        self._is_done.clear()
        return True

    async def run(self, work: Callable[[T], Awaitable[None]]) -> None:
        """Does the work, for ever."""
        while True:
            await self._has_work.wait()
            while self._items:
                item, size_bytes = self._items.popleft()
                try:
                    await work(item)
                finally:
                    # Counted until it is gone: the bound is on memory.
                    self._size_bytes -= size_bytes
            self._has_work.clear()
            self._is_done.set()

    async def flush(self, timeout_s: float) -> bool:
        """Waits until all is done, but not longer than timeout_s; returns whether it is."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_done.wait()
        except TimeoutError:
            return False
        return True
