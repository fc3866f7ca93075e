from __future__ import annotations

import asyncio
from collections.abc import Callable

TIMEOUT_S = 10.0


async def until(holds: Callable[[], bool], *, timeout_s: float = TIMEOUT_S) -> None:
    """Returns as soon as the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.002)
