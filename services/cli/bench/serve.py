"""`tokenmill bench serve`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.give_way import giving_way
from benchmarks.load_client import Server, ServerRefused, first_model
from benchmarks.prose import load_prose
from benchmarks.quiet import alone
from benchmarks.serve import LoadPlan, Slo, measure_serving
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.failure import CommandFailed


def serve(
    url: str,
    plan: LoadPlan,
    slo: Slo,
    *,
    model: str | None,
    prompts_file: Path | None,
    api_key: str = "",
) -> dict[str, Any]:
    """Loads the server at a URL.

    Raises:
        CommandFailed: nobody answers there, or a file or URL cannot be used.
    """
    try:
        server = Server.from_url(url, api_key)
    except ValueError as exc:
        raise CommandFailed(str(exc), exit_code=2) from exc
    prompts = load_prompts(prompts_file)

    async def run() -> dict[str, Any]:
        name = model or await first_model(server)
        figures = await measure_serving(server, name, prompts, plan, slo)
        return {**figures, "model": name, "url": url}

    try:
        # A client that is not on the same machine would not take the worker's time either.
        with alone(), giving_way(LOW_PRIORITY):
            return asyncio.run(run())
    except ServerRefused as exc:
        raise CommandFailed(f"{url} refused: {exc}") from exc
    except (OSError, TimeoutError) as exc:
        raise CommandFailed(f"{url} does not answer: {exc}") from exc


def load_prompts(path: Path | None) -> Sequence[str]:
    """Prompts of a file: a JSON list of texts or of objects with `text`; None: our own prose.

    Raises:
        CommandFailed: no such list.
    """
    if path is None:
        return [prose.text for prose in load_prose()]
    try:
        entries = json.loads(path.read_text())
        prompts = [entry if isinstance(entry, str) else entry["text"] for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CommandFailed(f"{path} is no JSON list of prompts: {exc}", exit_code=2) from exc
    if not prompts:
        raise CommandFailed(f"{path} holds no prompt", exit_code=2)
    return prompts
