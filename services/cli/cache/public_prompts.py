"""The cluster's secret and public prompts, as the command line changes them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from services.cli.ask import Gateway
from services.cli.chat.client import authorities, key_headers
from services.cli.failure import CommandFailed
from services.core.api_key import check_name
from services.core.errors import InvalidRequest, NotFound
from services.runtime.bus import Bus
from services.runtime.naming_watch import naming_bucket
from services.wire.block_naming import (
    PUBLIC_ENTRIES,
    SECRET_BYTES,
    SECRET_ENTRY,
    PublicPrompt,
    decode_public_prompt,
    encode_public_prompt,
    public_entry,
)

_TIMEOUT_S = 30.0


async def publish(bus: Bus, prompt: PublicPrompt) -> None:
    """Lets tenants share the blocks of a prompt from now on.

    Raises:
        InvalidRequest: a bad name, or a prompt without tokens.
    """
    check_name(prompt.name, field="name")
    if not prompt.token_ids:
        raise InvalidRequest("the prompt has no tokens", field="prompt")
    await naming_bucket(bus).put(public_entry(prompt.name), encode_public_prompt(prompt))


async def published(bus: Bus) -> list[PublicPrompt]:
    """All public prompts, by name."""
    entries = await naming_bucket(bus).entries(PUBLIC_ENTRIES)
    return sorted(map(decode_public_prompt, entries.values()), key=lambda prompt: prompt.name)


async def withdraw(bus: Bus, name: str) -> None:
    """Lets tenants share a prompt no longer.

    Raises:
        NotFound: no such prompt.
    """
    bucket = naming_bucket(bus)
    value, revision = await bucket.read(public_entry(name))
    if not value:
        raise NotFound(f"there is no public prompt {name[:64]!r}", field="name")
    await bucket.delete(public_entry(name), revision=revision)


async def rotate_secret(bus: Bus) -> None:
    """Gives the cluster another secret: nothing that is cached is found any more."""
    await naming_bucket(bus).put(SECRET_ENTRY, secrets.token_bytes(SECRET_BYTES))


def system_prompt_ids(gateway: Gateway, text: str) -> tuple[int, ...]:
    """Tokens that every chat with this system message begins with, by the model's chat template.

    Raises:
        CommandFailed: the gateway does not tell.
    """
    # What two chats have in common that differ from their first word on.
    one, other = (_tokens_of_chat(gateway, text, word) for word in ("a", "0"))
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return tuple(token_id for token_id, _ in same)


def _tokens_of_chat(gateway: Gateway, system: str, user: str) -> Sequence[int]:
    import httpx

    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    try:
        answer = httpx.post(
            f"{gateway.url.rstrip('/')}/tokenize",
            json={"model": gateway.model, "messages": messages},
            headers=key_headers(gateway.api_key),
            trust_env=False,
            verify=authorities(),
            timeout=_TIMEOUT_S,
        )
        body: Any = answer.json()
        if answer.is_error:
            raise CommandFailed(f"the gateway refused ({answer.status_code}): {answer.text[:200]}")
        return body["tokens"]
    except (httpx.HTTPError, ValueError, LookupError) as exc:
        raise CommandFailed(f"{gateway.url} does not tokenize: {exc}") from exc
