"""Load on any server that speaks OpenAI's wire format, and what its users would feel.

Closed loop: so many clients, each asks again when it has its answer. Open loop: requests arrive as
a Poisson process whether or not earlier ones are done, as those of independent users do.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load_client import Reply, Server, ServerRefused, ask
from services.core.percentile import percentile

_MS = 1000.0
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request must keep to count as good: to the first token, and per further one, mean."""

    ttft_ms: float = 2000.0
    tpot_ms: float = 100.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What is asked of a server.

    Attributes:
        num_requests: in all.
        concurrency: clients of a closed loop; unused in an open one.
        rate_per_s: arrivals of an open loop; None: closed.
        max_tokens: length of every answer; ends of sequence are ignored.
        num_warm_up: answers before the clock starts.
        timeout_s: of one request.
        seed: of arrival times.
        fresh_prompts: each prompt gets a beginning of its own, so that no server finds it in a
            cache.
    """

    num_requests: int = 32
    concurrency: int = 8
    rate_per_s: float | None = None
    max_tokens: int = 128
    num_warm_up: int = 2
    timeout_s: float = 300.0
    seed: int = 0
    fresh_prompts: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer; kind is short, for counting."""

    kind: str


AskOne = Callable[[Server, Mapping[str, Any]], Awaitable[Reply]]


async def measure_serving(
    server: Server,
    model: str,
    prompts: Sequence[str],
    plan: LoadPlan,
    slo: Slo,
    ask_one: AskOne = ask,
) -> dict[str, Any]:
    """Loads a server and reports; arguments as of `load_server`, and what goodput counts."""
    began_cpu_s = time.process_time()
    outcomes, wall_s = await load_server(server, model, prompts, plan, ask_one)
    client_cpu_s = time.process_time() - began_cpu_s
    # What the client took of the CPUs of a server on the same machine.
    return {**summary(outcomes, wall_s, plan, slo), "client_cpu_s": round(client_cpu_s, 3)}


async def load_server(
    server: Server,
    model: str,
    prompts: Sequence[str],
    plan: LoadPlan,
    ask_one: AskOne = ask,
) -> tuple[list[Reply | Failure], float]:
    """Loads a server.

    Args:
        server: which.
        model: as its requests name it.
        prompts: asked in order, from the first again when all were.
        plan: how much.
        ask_one: how one request is made.

    Returns:
        One outcome for each request, and seconds from the first request to the last answer.
    """
    run_id = secrets.token_hex(2)

    def body(name: str, idx: int) -> dict[str, Any]:
        text = prompts[idx % len(prompts)]
        return {
            "model": model,
            "prompt": f"({run_id}{name}{idx}) {text}" if plan.fresh_prompts else text,
            "max_tokens": plan.max_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def one(idx: int) -> Reply | Failure:
        try:
            async with asyncio.timeout(plan.timeout_s):
                return await ask_one(server, body("-", idx))
        except ServerRefused as exc:
            return Failure(exc.kind)
        except TimeoutError:
            return Failure("timeout")
        except OSError as exc:
            return Failure(type(exc).__name__)

    for idx in range(plan.num_warm_up):
        await ask_one(server, {**body("w", idx), "max_tokens": 8})
    began = time.perf_counter()
    outcomes = await (_open_loop(one, plan) if plan.rate_per_s else _closed_loop(one, plan))
    return outcomes, time.perf_counter() - began


def summary(
    outcomes: Sequence[Reply | Failure], wall_s: float, plan: LoadPlan, slo: Slo
) -> dict[str, Any]:
    """Figures of a run.

    Args:
        outcomes: one for each request.
        wall_s: from the first request to the last answer.
        plan: what was asked.
        slo: what goodput counts.
    """
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply) and outcome.event_s]
    failures = Counter(o.kind for o in outcomes if isinstance(o, Failure))
    num_empty = len(outcomes) - len(replies) - failures.total()
    if num_empty:
        failures["empty answer"] = num_empty
    output_tokens = sum(reply.output_tokens for reply in replies)
    prompt_tokens = sum(reply.prompt_tokens for reply in replies)
    gaps = [
        later - earlier
        for reply in replies
        for earlier, later in zip(reply.event_s, reply.event_s[1:], strict=False)
    ]
    good = [r for r in replies if r.event_s[0] * _MS <= slo.ttft_ms and _tpot_ms(r) <= slo.tpot_ms]
    return {
        "output_tps": round(output_tokens / wall_s, 1),
        "total_tps": round((output_tokens + prompt_tokens) / wall_s, 1),
        "ttft_ms": _spread(reply.event_s[0] for reply in replies),
        "itl_ms": _spread(gaps),
        "tpot_ms": _spread(_tpot_ms(reply) / _MS for reply in replies),
        "e2e_ms": _spread(reply.ended_s for reply in replies),
        "errors": failures.total(),
        "error_kinds": dict(failures),
        "goodput_rps": round(len(good) / wall_s, 3),
        "good_share": round(len(good) / len(outcomes), 3) if outcomes else 0.0,
        "slo": {"ttft_ms": slo.ttft_ms, "tpot_ms": slo.tpot_ms},
        "loop": "open" if plan.rate_per_s else "closed",
        "rate_per_s": plan.rate_per_s,
        "concurrency": None if plan.rate_per_s else plan.concurrency,
        "num_requests": len(outcomes),
        "duration_s": round(wall_s, 3),
        "prompt_tokens_mean": round(prompt_tokens / max(1, len(replies)), 1),
        "cached_tokens": sum(reply.cached_tokens for reply in replies),
        "output_tokens": output_tokens,
        "tokens_per_event": round(
            output_tokens / max(1, sum(len(reply.event_s) for reply in replies)), 3
        ),
    }


async def _closed_loop(
    one: Callable[[int], Awaitable[Reply | Failure]], plan: LoadPlan
) -> list[Reply | Failure]:
    outcomes: list[Reply | Failure] = []
    turns = iter(range(plan.num_requests))

    async def client() -> None:
        # All clients share one iterator: whoever is free takes the next prompt.
        for idx in turns:
            outcomes.append(await one(idx))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(plan.concurrency, plan.num_requests)):
            group.create_task(client())
    return outcomes


async def _open_loop(
    one: Callable[[int], Awaitable[Reply | Failure]], plan: LoadPlan
) -> list[Reply | Failure]:
    assert plan.rate_per_s is not None
    arrivals = random.Random(plan.seed)
    began = time.perf_counter()
    due_s = 0.0
    tasks: list[asyncio.Task[Reply | Failure]] = []

    async def run(idx: int) -> Reply | Failure:
        return await one(idx)

    async with asyncio.TaskGroup() as group:
        for idx in range(plan.num_requests):
            # Against the clock and not the last arrival: lateness must not thin the load out.
            await asyncio.sleep(max(0.0, began + due_s - time.perf_counter()))
            tasks.append(group.create_task(run(idx)))
            due_s += arrivals.expovariate(plan.rate_per_s)
    return [task.result() for task in tasks]


def _tpot_ms(reply: Reply) -> float:
    if reply.output_tokens < 2:
        return 0.0
    return (reply.event_s[-1] - reply.event_s[0]) / (reply.output_tokens - 1) * _MS


def _spread(seconds: Any) -> dict[str, float | None]:
    values = list(seconds)
    if not values:
        return dict.fromkeys((*_SHARES, "mean"))
    figures: dict[str, float | None] = {
        name: round(percentile(values, share) * _MS, 2) for name, share in _SHARES.items()
    }
    return {**figures, "mean": round(statistics.fmean(values) * _MS, 2)}
