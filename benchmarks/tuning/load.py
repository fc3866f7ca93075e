"""Puts a workload on a server and times what comes back."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from benchmarks.load_client import Reply, Server, ServerRefused, ask
from benchmarks.tuning.figures import Figures
from benchmarks.tuning.workloads import Client, Question, Workload

TIMEOUT_S = 300.0
_MS = 1000.0


async def run_window(
    server: Server, model: str, workload: Workload, texts: Sequence[str]
) -> Figures:
    """One window: all of a workload's work, from the first request to the last answer.

    Prompts begin with a word that no other window has, so that none finds another's in a cache.
    """
    replies: list[Reply] = []
    num_errors = 0

    async def client(questions: Client) -> None:
        nonlocal num_errors
        for question in questions:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    replies.append(await ask(server, _body(model, question)))
            except (ServerRefused, OSError, TimeoutError):
                num_errors += 1

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for questions in workload.clients(texts, secrets.token_hex(3)):
            group.create_task(client(questions))
    return window_figures(replies, time.perf_counter() - began, num_errors)


def window_figures(replies: Sequence[Reply], seconds: float, num_errors: int) -> Figures:
    """Figures of a window; an answer without text counts as an error."""
    told = [reply for reply in replies if reply.event_s]
    gaps = [
        (later - earlier) * _MS
        for reply in told
        for earlier, later in zip(reply.event_s, reply.event_s[1:], strict=False)
    ]
    return Figures(
        seconds=seconds,
        output_tokens=sum(reply.output_tokens for reply in told),
        prompt_tokens=sum(reply.prompt_tokens for reply in told),
        cached_tokens=sum(reply.cached_tokens for reply in told),
        samples={
            "ttft": [reply.event_s[0] * _MS for reply in told],
            "itl": gaps,
            "tpot": [
                (reply.event_s[-1] - reply.event_s[0]) / (reply.output_tokens - 1) * _MS
                for reply in told
                if reply.output_tokens > 1
            ],
            "latency": [reply.ended_s * _MS for reply in told],
        },
        errors=num_errors + len(replies) - len(told),
    )


def _body(model: str, question: Question) -> dict[str, object]:
    return {
        "model": model,
        "prompt": question.prompt,
        "max_tokens": question.max_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
