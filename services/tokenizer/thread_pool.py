"""Blocking work beside the event loop, bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.core.errors import Overloaded

T = TypeVar("T")
RETRY_AFTER_S = 1.0


class BoundedThreadPool:
    """Runs functions on threads; more than `max_pending` at once are refused.

    Args:
        num_threads: functions that run at the same time.
        max_pending: functions that run or wait.
    """

    def __init__(self, *, num_threads: int, max_pending: int) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="tokenize")
        self._places = threading.BoundedSemaphore(max_pending)
        self._max_pending = max_pending

    async def run(self, work: Callable[[], T]) -> T:
        """Result of `work`. A caller that is cancelled leaves; work that runs goes on.

        Raises:
            Overloaded: no place is free.
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded(
                f"{self._max_pending} texts are waiting to be tokenized already",
                retry_after_s=RETRY_AFTER_S,
            )
        future = self._executor.submit(work)
        # Not when the caller leaves: the thread is still taken then.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drops what waits. Twice is safe."""
        self._executor.shutdown(wait=False, cancel_futures=True)
