"""One look at a running cluster: its gateways' live views and its processes' metrics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from services.cli.chat.client import authorities, key_headers
from services.cli.cluster.state import ClusterState, ProcessState, running_cluster
from services.cli.failure import CommandFailed
from services.cli.top.figures import ProcessFigures, Scrape, figures_between, read_scrape

_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster at one moment.

    Attributes:
        live: of each gateway that answered, as GET /api/v1/live tells it.
        processes: by name; None of one that did not answer.
    """

    state: ClusterState
    live: list[dict[str, Any]]
    processes: dict[str, ProcessFigures | None]

    def as_json(self) -> dict[str, Any]:
        """For programs: sums over the gateways; times are those of the slowest one."""
        waiting: Counter[str] = Counter()
        for one in self.live:
            waiting.update(one["waiting"])
        return {
            "model": self.state.model_name,
            "url": self.state.http_url,
            **{
                name: sum(one[name] for one in self.live)
                for name in ("requests_per_s", "failed_per_s", "tokens_per_s", "running")
            },
            "waiting": dict(waiting),
            "ttft_ms": self._slowest("ttft_ms"),
            "itl_ms": self._slowest("itl_ms"),
            "reasons_against": sorted({r for one in self.live for r in one["reasons_against"]}),
            "workers": self.live[0]["workers"] if self.live else [],
            "processes": [self._process(process) for process in self.state.processes],
        }

    def _slowest(self, name: str) -> dict[str, float] | None:
        told = [one[name] for one in self.live if one[name]]
        return max(told, key=lambda one: one["p50"], default=None)

    def _process(self, process: ProcessState) -> dict[str, Any]:
        figures = self.processes.get(process.name)
        return {
            "name": process.name,
            "is_ready": process.is_ready,
            "num_restarts": process.num_restarts,
            "cpu": figures.cpu if figures else None,
            "resident_bytes": figures.resident_bytes if figures else None,
            "utilisation": figures.utilisation if figures else None,
            "hit_share": figures.hit_share if figures else None,
        }


@dataclass(slots=True)
class Watch:
    """Looks again and again, and remembers the counters of the look before.

    Attributes:
        state_dir: of the cluster.
        api_key: of an operator, where keys are asked for.
    """

    state_dir: Path
    api_key: str | None = None
    _before: dict[str, Scrape] = field(default_factory=dict[str, Scrape])

    def look(self) -> Look:
        """The cluster now.

        Raises:
            CommandFailed: none runs, or the key is not enough.
        """
        state = running_cluster(self.state_dir)
        return asyncio.run(self._look(state))

    async def _look(self, state: ClusterState) -> Look:
        async with httpx.AsyncClient(
            timeout=_TIMEOUT_S, trust_env=False, verify=authorities()
        ) as client:
            gateways = [one for one in state.processes if one.role == "gateway"]
            told = [one for one in state.processes if one.metrics_port is not None]
            live, figures = await asyncio.gather(
                asyncio.gather(*(self._live(client, one, state.scheme) for one in gateways)),
                asyncio.gather(*(self._figures(client, one) for one in told)),
            )
        processes = dict(zip((one.name for one in told), figures, strict=True))
        return Look(state, [one for one in live if one is not None], processes)

    async def _live(self, client: httpx.AsyncClient, gateway: ProcessState, scheme: str) -> Any:
        url = f"{scheme}://127.0.0.1:{gateway.http_port}/api/v1/live"
        try:
            reply = await client.get(url, headers=key_headers(self.api_key))
        except httpx.HTTPError:
            return None
        if reply.status_code in (401, 403):
            raise CommandFailed(
                "this cluster shows its live view to operators: give --api-key with scope admin"
            )
        return reply.json() if reply.status_code == 200 else None

    async def _figures(
        self, client: httpx.AsyncClient, process: ProcessState
    ) -> ProcessFigures | None:
        try:
            reply = await client.get(f"http://127.0.0.1:{process.metrics_port}/metrics")
        except httpx.HTTPError:
            self._before.pop(process.name, None)
            return None
        now = read_scrape(reply.text, time.monotonic())
        figures = figures_between(self._before.get(process.name), now)
        self._before[process.name] = now
        return figures
