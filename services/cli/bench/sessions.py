"""`tokenmill bench sessions`: what a chat gains from K/V blocks that outlive their worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.load_client import Server, ServerRefused
from benchmarks.quiet import alone
from benchmarks.sessions.crowd import (
    Conversation,
    CrowdPlan,
    history_share,
    hit_share,
    num_turns_behind,
    talk,
    token_share,
    tokens_of,
)
from benchmarks.sessions.second_turn import SecondTurnPlan, SecondTurns, cached_share, ttft_ms
from benchmarks.sessions.texts import Book
from benchmarks.sessions.turn import Turn
from services.cli.cluster.state import ClusterState
from services.cli.failure import CommandFailed
from services.cli.own_fleet import own_fleet
from services.cli.terminal import err

_CACHES_OFF = {"TOKENMILL_PREFIX_CACHE": "false"}
_PLACES = ("same_worker", "other_worker", "after_restart", "from_disk")
_CROWD_WORKERS = 3
_BLOCK_SIZE = int(os.environ.get("TOKENMILL_BLOCK_SIZE", "32"))

T = TypeVar("T")


def sessions(
    second: SecondTurnPlan | None, crowd: CrowdPlan | None, *, model: str | None, engine: str
) -> dict[str, Any]:
    """Measures on clusters of its own, with and without caches.

    Args:
        second: second turns to measure; None leaves them out.
        crowd: conversations to hold; None leaves them out.
        model: as `--model` takes it.
        engine: of the workers.

    Raises:
        CommandFailed: a cluster cannot be started, or a turn is refused.
    """
    report: dict[str, Any] = {f"{place}_ttft_ms": None for place in ("cold", *_PLACES)}
    report |= {"hit_share": None, "identical": None}
    identical: list[bool] = []
    with alone():
        if second is not None:
            turns = {**_cold(second, model, engine), **_warm(second, model, engine)}
            report |= _second_turn_figures(turns)
            cold = [turn.token_ids for turn in turns["cold"]]
            identical += [[turn.token_ids for turn in those] == cold for those in turns.values()]
        if crowd is not None:
            with_caches = _crowd(crowd, model, engine, {})
            without = _crowd(crowd, model, engine, _CACHES_OFF)
            report["hit_share"] = round(hit_share(with_caches, _BLOCK_SIZE), 4)
            report["hit_share_of_tokens"] = round(token_share(with_caches), 4)
            report["hit_share_of_history"] = round(history_share(with_caches), 4)
            report["turns_behind"] = num_turns_behind(with_caches, _BLOCK_SIZE)
            identical.append(tokens_of(with_caches) == tokens_of(without))
    report["identical"] = all(identical)
    return {
        **report,
        "num_second_turns": second.num_sessions if second else 0,
        "history_tokens": second.history_tokens if second else 0,
        "num_conversations": crowd.num_sessions if crowd else 0,
        "num_cpus": os.cpu_count(),
    }


def _second_turn_figures(turns: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    spreads = {place: ttft_ms(those) for place, those in turns.items()}
    cold_ms = spreads["cold"]["p50"]
    return {
        **{f"{place}_ttft_ms": spread["p50"] for place, spread in spreads.items()},
        "times_faster": {
            place: round(cold_ms / spread["p50"], 1)
            for place, spread in spreads.items()
            if place != "cold"
        },
        "ttft_spread_ms": spreads,
        "cached_share": {place: round(cached_share(those), 4) for place, those in turns.items()},
        "prompt_tokens_mean": round(
            sum(turn.prompt_tokens for turn in turns["cold"]) / len(turns["cold"])
        ),
    }


def _cold(plan: SecondTurnPlan, model: str | None, engine: str) -> dict[str, list[Turn]]:
    with own_fleet(
        model=model, engine=engine, num_workers=1, environment=_CACHES_OFF | _all_cpus()
    ) as fleet:
        turns = _second_turns(fleet.state, plan)
        _run(turns.begin("cold"))
        return {"cold": _run(turns.go_on("cold"))}


def _warm(plan: SecondTurnPlan, model: str | None, engine: str) -> dict[str, list[Turn]]:
    measured: dict[str, list[Turn]] = {}
    with own_fleet(model=model, engine=engine, num_workers=2, environment=_all_cpus()) as fleet:
        one, other = (worker.name for worker in fleet.workers())
        turns = _second_turns(fleet.state, plan)
        fleet.leave_only(one)
        for place in _PLACES:
            # Computed once; later places find it.
            err.print(f"first turns for: {place}")
            _run(turns.begin(place))
        measured["same_worker"] = _run(turns.go_on("same_worker"))
        fleet.leave_only(other)
        measured["other_worker"] = _run(turns.go_on("other_worker"))
        fleet.kill(other)
        measured["after_restart"] = _run(turns.go_on("after_restart"))
        state = fleet.restart_cluster()
        fleet.leave_only(one)
        from_disk = _run(_second_turns(state, plan).go_on("from_disk"))
        if cached_share(from_disk):
            measured["from_disk"] = from_disk
    return measured


def _crowd(
    plan: CrowdPlan, model: str | None, engine: str, environment: Mapping[str, str]
) -> list[Conversation]:
    with own_fleet(
        model=model, engine=engine, num_workers=_CROWD_WORKERS, environment=environment
    ) as fleet:
        state = fleet.state
        return _run(talk(Server.from_url(state.http_url), _book(state), plan))


def _all_cpus() -> dict[str, str]:
    # One worker computes at a time, in each place with as many threads as in any other.
    return {"TOKENMILL_NUM_THREADS": str(os.cpu_count() or 1)}


def _second_turns(state: ClusterState, plan: SecondTurnPlan) -> SecondTurns:
    return SecondTurns(Server.from_url(state.http_url), _book(state), plan)


def _book(state: ClusterState) -> Book:
    return Book.of_model(Path(state.engine_environment["TOKENMILL_MODEL_DIR"]))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except* (ServerRefused, OSError, TimeoutError) as group:
        raise CommandFailed(f"a turn failed: {group.exceptions[0]}") from group
