"""`tokenmill ask`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.cli.chat.client import Question, authorities, key_headers
from services.cli.chat.client import ask as ask_gateway
from services.cli.cluster.state import running_cluster
from services.cli.terminal import answer_line, err, out, write_text


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where to ask, and for which model."""

    url: str
    model: str
    api_key: str | None = None


def find_gateway(
    state_dir: Path, url: str | None, model: str | None, api_key: str | None = None
) -> Gateway:
    """The gateway of the cluster that runs here, or the one that the user names.

    Raises:
        CommandFailed: none runs here and none is named, or it does not answer.
    """
    if url is None:
        state = running_cluster(state_dir)
        return Gateway(state.http_url, model or state.model_name, api_key)
    return Gateway(url, model or _first_model(url, api_key), api_key)


def ask(gateway: Gateway, question: Question, *, quiet: bool) -> dict[str, Any]:
    """Asks, streams the answer to stdout unless quiet, and returns answer and figures."""
    if quiet:
        answer = ask_gateway(gateway.url, question, api_key=gateway.api_key)
    else:
        answer = ask_gateway(gateway.url, question, write_text, api_key=gateway.api_key)
        out.print()
        err.print(answer_line(answer), soft_wrap=True)
    return {**asdict(answer), "tokens_per_s": answer.tokens_per_s}


def _first_model(url: str, api_key: str | None) -> str:
    import httpx

    from services.cli.failure import CommandFailed

    try:
        answer = httpx.get(
            f"{url.rstrip('/')}/v1/models",
            headers=key_headers(api_key),
            trust_env=False,
            verify=authorities(),
            timeout=5.0,
        )
        return answer.raise_for_status().json()["data"][0]["id"]
    except (httpx.HTTPError, ValueError, LookupError) as exc:
        raise CommandFailed(f"{url} does not tell its models: {exc}") from exc
