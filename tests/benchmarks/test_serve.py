import asyncio
from collections.abc import Mapping
from typing import Any

from benchmarks.load_client import Reply, Server, ServerRefused
from benchmarks.prose import load_prose
from benchmarks.serve import Failure, LoadPlan, Slo, measure_serving, summary

SERVER = Server("127.0.0.1", 1)


def reply(*event_s: float, tokens: int | None = None) -> Reply:
    return Reply(0.0, list(event_s), event_s[-1], 10, 0, tokens or len(event_s))


def test_figures_are_of_all_answers_and_failures_are_counted_by_kind():
    outcomes = [reply(0.1, 0.2, 0.4), reply(0.3, 0.4, 0.5), Failure("http 503")]
    figures = summary(outcomes, 2.0, LoadPlan(), Slo())
    assert figures["output_tps"] == 3.0
    assert figures["total_tps"] == 13.0
    assert figures["ttft_ms"]["p50"] == 100.0
    assert figures["itl_ms"]["p99"] == 200.0
    assert (figures["errors"], figures["error_kinds"]) == (1, {"http 503": 1})


def test_goodput_counts_what_keeps_both_limits():
    outcomes = [reply(0.1, 0.15), reply(0.9, 0.95), reply(0.1, 0.9)]
    figures = summary(outcomes, 1.0, LoadPlan(), Slo(ttft_ms=500, tpot_ms=100))
    assert figures["goodput_rps"] == 1.0


def test_a_closed_loop_never_has_more_requests_out_than_clients():
    running = most = 0

    async def fake_ask(server: Server, body: Mapping[str, Any]) -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return reply(0.1, 0.2)

    plan = LoadPlan(num_requests=9, concurrency=3, num_warm_up=0)
    figures = asyncio.run(measure_serving(SERVER, "m", ["a"], plan, Slo(), fake_ask))
    assert most == 3
    assert figures["num_requests"] == 9


def test_an_open_loop_does_not_wait_for_answers():
    asked: list[str] = []
    all_asked = asyncio.Event()

    async def fake_ask(server: Server, body: Mapping[str, Any]) -> Reply:
        asked.append(body["prompt"])
        if len(asked) == 4:
            all_asked.set()
        await all_asked.wait()
        return reply(0.1)

    plan = LoadPlan(num_requests=4, rate_per_s=10_000.0, num_warm_up=0)
    figures = asyncio.run(measure_serving(SERVER, "m", ["a"], plan, Slo(), fake_ask))
    assert figures["loop"] == "open"
    assert len(set(asked)) == 4


def test_a_refusal_is_an_error_and_not_an_end():
    async def fake_ask(server: Server, body: Mapping[str, Any]) -> Reply:
        raise ServerRefused("http 429", "later")

    plan = LoadPlan(num_requests=2, num_warm_up=0)
    figures = asyncio.run(measure_serving(SERVER, "m", ["a"], plan, Slo(), fake_ask))
    assert figures["error_kinds"] == {"http 429": 2}


def test_the_prose_is_of_the_lengths_that_the_benchmark_names():
    lengths = [prose.num_tokens for prose in load_prose()]
    assert len(lengths) == 32
    assert (min(lengths), max(lengths), round(sum(lengths) / 32)) == (64, 512, 224)
