"""Follows what names blocks in this cluster: its secret and the prompts that are public."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from services.core.block_names import BlockNaming
from services.core.errors import Conflict, TokenmillError
from services.runtime.bus import Bus
from services.runtime.key_value import Change, KeyValueBucket
from services.runtime.logs import get_logger
from services.wire.block_naming import SECRET_BYTES, SECRET_ENTRY, naming_of
from services.wire.subjects import NAMING_BUCKET

log = get_logger(__name__)

_RETRY_PAUSE_S = 0.5


def naming_bucket(bus: Bus, num_replicas: int = 1) -> KeyValueBucket:
    """Where all processes of a cluster find it; whoever comes first makes it."""
    return KeyValueBucket(
        bus, NAMING_BUCKET, what="the store of block names", num_replicas=num_replicas
    )


class NamingWatch:
    """Whoever comes first draws the cluster's secret; all others take it.

    Until it is known a process has one of its own: it shares with nobody, which is only slow.

    Args:
        bucket: shared by the cluster.
        model: whose public prompts count.
        changed: hears of each new naming, and at once of the first one.
    """

    def __init__(
        self, bucket: KeyValueBucket, model: str, changed: Callable[[BlockNaming], None]
    ) -> None:
        self._bucket = bucket
        self._model = model
        self._changed = changed
        self._naming = BlockNaming(secrets.token_bytes(SECRET_BYTES))
        self._is_known = asyncio.Event()
        changed(self._naming)

    async def known(self, timeout_s: float) -> None:
        """Waits until the cluster's naming is known, but not longer than timeout_s."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._is_known.wait()

    async def follow(self) -> None:
        """Keeps it true; runs until cancelled."""
        while True:
            try:
                with suppress(Conflict):
                    if not (await self._bucket.read(SECRET_ENTRY))[0]:
                        drawn = secrets.token_bytes(SECRET_BYTES)
                        await self._bucket.write(SECRET_ENTRY, drawn, revision=0)
                async with self._bucket.watch() as changes:
                    await self._read(changes)
            except TokenmillError as exc:
                log.warning("naming.not_followed", error=exc.message)
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _read(self, changes: AsyncIterator[Change | None]) -> None:
        entries: dict[str, bytes] = {}
        is_whole = False
        async for change in changes:
            if change is None:
                is_whole = True
            elif change.value is not None:
                entries[change.key] = change.value
            else:
                entries.pop(change.key, None)
            if is_whole:
                self._take(entries)

    def _take(self, entries: dict[str, bytes]) -> None:
        try:
            naming = naming_of(entries, self._model)
        except ValueError as exc:
            log.error("naming.unreadable", error=str(exc))
            return
        if naming != self._naming:
            self._naming = naming
            self._changed(naming)
            log.info("naming.changed", num_public=len(naming.public_prompts))
        self._is_known.set()
