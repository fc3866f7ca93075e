"""Says that the worker's load changed."""

from __future__ import annotations

import asyncio


class LoadSignal:
    """An event that many changes set once. Lives on the event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def changed(self) -> None:
        """The load is another than before."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Returns at the next change, or after timeout_s."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()
