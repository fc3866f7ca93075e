"""Cost and smoothness of a gateway under many streams, with workers that only keep time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.children import Child
from benchmarks.stream_reader import Order, Stream
from services.core.percentile import percentile

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What to load a gateway with.

    Attributes:
        num_streams: at once.
        num_tokens: of each answer.
        step_s: pace of the fake workers: a token of every stream each.
        ramp_s: streams begin spread over so long.
        num_probes: requests one after the other before the load, for the added time to first token.
    """

    num_streams: int = 1000
    num_tokens: int = 200
    step_s: float = 0.05
    ramp_s: float = 5.0
    num_probes: int = 30


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway to load, on this machine.

    Attributes:
        pid: of its process.
        others: processes around it, by role.
    """

    host: str
    port: int
    model: str
    pid: int
    others: Mapping[str, int] = field(default_factory=dict[str, int])


def measure_streams(target: Target, plan: StreamPlan, log_file: Path) -> dict[str, Any]:
    """Loads a gateway from a process of its own.

    Args:
        target: the gateway.
        plan: the load.
        log_file: takes what that process says.

    Returns:
        streams, completed, gaps (tokens missing from answers), itl_p99_ratio (99th percentile of
        the times between tokens, over the workers' own pace), itl_p99_ratio_at_once (of those
        times while all streams ran: after the last began, before the first ended),
        cpu_us_per_token (of the gateway's process), added_ttft_ms_p50 (beyond one step of the fake
        worker, alone), cpu_shares (of one CPU, by process, while streams ran).

    Raises:
        ChildFailed: the client's process broke down.
    """
    command = [sys.executable, "-m", "benchmarks.stream_reader"]
    with Child("client", command, log_file=log_file) as client:
        probes = [_read(client, target, 1, 2)[0] for _ in range(plan.num_probes)]
        pids = {"gateway": target.pid, "client": client.pid, **target.others}
        before_s = {role: _cpu_s(pid) for role, pid in pids.items()}
        streams = _read(client, target, plan.num_streams, plan.num_tokens, plan.ramp_s)
        cpu_s = {role: _cpu_s(pid) - before_s[role] for role, pid in pids.items()}
    firsts_s = [one.arrivals_s[0] - one.began_s for one in probes if one.arrivals_s]
    whole = [one for one in streams if one.is_whole]
    num_tokens = sum(one.num_tokens for one in streams)
    gaps_s = [gap for one in whole for gap in _gaps(one.arrivals_s)]
    ends_s = [one.arrivals_s[-1] for one in streams if one.arrivals_s]
    wall_s = max(ends_s, default=0.0) - min(one.began_s for one in streams)
    return {
        "streams": plan.num_streams,
        "completed": sum(one.num_tokens == plan.num_tokens for one in whole),
        "gaps": plan.num_streams * plan.num_tokens - num_tokens,
        "itl_p99_ratio": _ratio(gaps_s, plan.step_s),
        "itl_p99_ratio_at_once": _ratio(gaps_at_once(whole), plan.step_s),
        "cpu_us_per_token": _us_each(cpu_s["gateway"], num_tokens),
        "added_ttft_ms_p50": (
            round((percentile(firsts_s, 0.5) - plan.step_s) * 1000, 2) if firsts_s else None
        ),
        "tokens_per_s": round(num_tokens / wall_s, 1) if wall_s > 0 else None,
        "itl_ms": {f"p{share}": _ms(gaps_s, share / 100) for share in (50, 90, 99)},
        "cpu_shares": {role: round(one / wall_s, 3) for role, one in cpu_s.items() if wall_s > 0},
    }


def _read(
    client: Child, target: Target, num_streams: int, num_tokens: int, ramp_s: float = 0.0
) -> list[Stream]:
    order = Order(target.host, target.port, target.model, num_streams, num_tokens, ramp_s)
    answer = client.ask(asdict(order))
    return [
        Stream(began_s, num_tokens=num_got, is_whole=is_whole, arrivals_s=arrivals_s)
        for began_s, num_got, is_whole, arrivals_s in answer["streams"]
    ]


def _us_each(seconds: float, num_tokens: int) -> float | None:
    return round(seconds / num_tokens * 1e6, 1) if num_tokens else None


def _ms(values_s: Sequence[float], share: float) -> float | None:
    return round(percentile(values_s, share) * 1000, 1) if values_s else None


def gaps_at_once(streams: Sequence[Stream]) -> list[float]:
    """Times between tokens while all streams had begun and none had ended."""
    if not streams or not all(one.arrivals_s for one in streams):
        return []
    since_s = max(one.arrivals_s[0] for one in streams)
    until_s = min(one.arrivals_s[-1] for one in streams)
    return [
        later - earlier
        for one in streams
        for earlier, later in pairwise(one.arrivals_s)
        if since_s <= earlier and later <= until_s
    ]


def _ratio(gaps_s: Sequence[float], step_s: float) -> float | None:
    return round(percentile(gaps_s, 0.99) / step_s, 3) if gaps_s else None


def _gaps(arrivals_s: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(arrivals_s)]


def _cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
