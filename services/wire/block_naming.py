"""The cluster's secret and public prompts as they are kept in the broker's key-value bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.core.block_names import BlockNaming
from services.wire.subjects import token

SECRET_ENTRY = "secret"
SECRET_BYTES = 32
PUBLIC_ENTRIES = "public.*"
_PUBLIC = "public."


@dataclass(frozen=True, slots=True)
class PublicPrompt:
    """A beginning of prompts that all tenants may share."""

    name: str
    model: str
    token_ids: tuple[int, ...]


def public_entry(name: str) -> str:
    """Where a public prompt is kept."""
    return _PUBLIC + token(name)


def encode_public_prompt(prompt: PublicPrompt) -> bytes:
    """A public prompt as bytes."""
    return json.dumps(
        {"name": prompt.name, "model": prompt.model, "token_ids": prompt.token_ids}
    ).encode()


def decode_public_prompt(payload: bytes) -> PublicPrompt:
    """A public prompt from bytes.

    Raises:
        ValueError: not written by this service.
    """
    raw: Any = json.loads(payload)
    try:
        token_ids = tuple(int(token_id) for token_id in raw["token_ids"])
        if not all(0 <= token_id < 1 << 32 for token_id in token_ids):
            raise ValueError("a token id is out of range")
        return PublicPrompt(str(raw["name"]), str(raw["model"]), token_ids)
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no public prompt: {exc!r}") from exc


def naming_of(entries: Mapping[str, bytes], model: str) -> BlockNaming:
    """What the bucket's entries say of a model. What nobody can read is not public.

    Raises:
        ValueError: there is no secret of the right length.
    """
    secret = entries.get(SECRET_ENTRY, b"")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the secret has {len(secret)} bytes, not {SECRET_BYTES}")
    prompts: list[tuple[int, ...]] = []
    for key, payload in sorted(entries.items()):
        if key.startswith(_PUBLIC):
            try:
                prompt = decode_public_prompt(payload)
            except ValueError:
                continue
            if prompt.model == model:
                prompts.append(prompt.token_ids)
    return BlockNaming(secret, tuple(prompts))
