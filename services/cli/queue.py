"""`tokenmill queue`: what waits, how fast it drains, and what was given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from rich.live import Live
from rich.table import Table

from services.cli.failure import CommandFailed
from services.core.queue_status import QueueStatus, QueueView
from services.runtime.bus import Bus, connect_bus
from services.wire.queue import BadPayload
from services.wire.queue_status import decode_queue_status
from services.wire.subjects import (
    BANDS,
    DEAD_LETTERS_STREAM,
    QUEUE_STATUS_WILDCARD,
    REQUESTS_STREAM,
    band_of_lane,
    lane_of_subject,
    name_of_token,
    requests_of,
)

LISTEN_S = 1.3
"""Schedulers speak once a second."""

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One band of one model's queue.

    Attributes:
        model: as it is called.
        depth: requests in the stream, those that schedulers hold included.
        oldest_s: age of the oldest of them; 0 if there is none.
        drain_per_s: requests per second that went out to workers lately.
        in_flight: pulled by a scheduler and not settled.
        dead: letters that are kept.
    """

    model: str
    request_class: str
    depth: int = 0
    oldest_s: float = 0.0
    drain_per_s: float = 0.0
    in_flight: int = 0
    dead: int = 0


class QueueReading:
    """Reads the broker, and hears the schedulers meanwhile."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._views: dict[str, QueueView] = {}

    async def listen(self) -> None:
        """Hears schedulers from now on."""
        await self._bus.client.subscribe(QUEUE_STATUS_WILDCARD, cb=self._hear)

    async def rows(self) -> list[QueueRow]:
        """Every band of every model that has anything to say."""
        now_s = time.monotonic()
        depths = await self._counts(REQUESTS_STREAM)
        dead = await self._counts(DEAD_LETTERS_STREAM)
        words = {model: view.statuses(now_s) for model, view in self._views.items()}
        models = {model for model, _ in (*depths, *dead)} | words.keys()
        rows: list[QueueRow] = []
        for model in sorted(models):
            for band in BANDS:
                depth = depths.get((model, band), 0)
                rows.append(
                    QueueRow(
                        model,
                        band,
                        depth=depth,
                        oldest_s=await self._oldest_s(model, band) if depth else 0.0,
                        drain_per_s=round(_sum(words.get(model, []), band, "num_per_s"), 2),
                        in_flight=int(_sum(words.get(model, []), band, "num_held")),
                        dead=dead.get((model, band), 0),
                    )
                )
        return rows

    def scale(self) -> dict[str, dict[str, int]]:
        """Workers that each model has and should have, as the last scheduler said."""
        now_s = time.monotonic()
        return {
            model: {"workers": words[-1].num_workers, "desired_workers": words[-1].desired_workers}
            for model, view in self._views.items()
            if (words := view.statuses(now_s))
        }

    async def _hear(self, message: Msg) -> None:
        with suppress(BadPayload):
            status = decode_queue_status(message.data)
            self._views.setdefault(status.model, QueueView()).hear(status, time.monotonic())

    async def _counts(self, stream: str) -> dict[tuple[str, str], int]:
        try:
            info = await self._bus.jetstream.stream_info(stream, subjects_filter=">")
        except nats.js.errors.NotFoundError:
            return {}
        counts: dict[tuple[str, str], int] = {}
        for subject, count in (info.state.subjects or {}).items():
            key = (name_of_token(subject.split(".")[2]), band_of_lane(lane_of_subject(subject)))
            counts[key] = counts.get(key, 0) + count
        return counts

    async def _oldest_s(self, model: str, band: str) -> float:
        subject = requests_of(model).removesuffix(">") + (band if band == BANDS[0] else f"{band}.>")
        try:
            message = await self._bus.jetstream.get_msg(
                REQUESTS_STREAM, seq=1, subject=subject, next=True
            )
        except nats.js.errors.NotFoundError:
            return 0.0
        if message.time is None:
            return 0.0
        return round(max(0.0, (datetime.now(UTC) - message.time).total_seconds()), 1)


def show(url: str, *, as_json: bool, watch: bool, write: Callable[[dict[str, Any]], None]) -> None:
    """Shows the queue once, or for ever.

    Args:
        url: of the broker.
        as_json: write a value per reading instead of a table.
        watch: read again every second until interrupted.
        write: takes the values.

    Raises:
        CommandFailed: the broker does not answer.
    """
    try:
        asyncio.run(_show(url, as_json=as_json, watch=watch, write=write))
    except (nats.errors.Error, OSError, TimeoutError) as exc:
        raise CommandFailed(f"the broker at {url} does not answer") from exc


async def _show(
    url: str, *, as_json: bool, watch: bool, write: Callable[[dict[str, Any]], None]
) -> None:
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            bus = await stack.enter_async_context(connect_bus(url, name="tokenmill-queue"))
        reading = QueueReading(bus)
        await reading.listen()
        await asyncio.sleep(LISTEN_S)
        if as_json:
            write(await _value(reading))
            while watch:
                await asyncio.sleep(1)
                write(await _value(reading))
            return
        with Live(_table(await reading.rows()), auto_refresh=False) as live:
            while watch:
                await asyncio.sleep(1)
                live.update(_table(await reading.rows()), refresh=True)


async def _value(reading: QueueReading) -> dict[str, Any]:
    return {
        "queues": [asdict(row) for row in await reading.rows()],
        "models": reading.scale(),
    }


def _sum(words: list[QueueStatus], band: str, field: str) -> float:
    return sum(getattr(word.bands[band], field) for word in words if band in word.bands)


def _table(rows: list[QueueRow]) -> Table:
    table = Table(box=None)
    for heading in ("model", "class", "depth", "oldest s", "drain /s", "in flight", "dead"):
        table.add_column(heading, justify="left" if heading in ("model", "class") else "right")
    for row in rows:
        table.add_row(
            row.model,
            row.request_class,
            str(row.depth),
            f"{row.oldest_s:.1f}",
            f"{row.drain_per_s:.1f}",
            str(row.in_flight),
            str(row.dead),
        )
    return table
