"""Lists in pages: what the query of a request asks for."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.types import Scope

from services.core.errors import InvalidRequest


def query_of(scope: Scope) -> dict[str, str]:
    """The query's parameters; of one that is named twice, the last."""
    parsed = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values[-1] for name, values in parsed.items()}


def limit_of(query: Mapping[str, str], *, default: int, most: int) -> int:
    """Entries of a page, by the parameter `limit`.

    Raises:
        InvalidRequest: no number from 1 to most.
    """
    text = query.get("limit", str(default))
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= most:
        raise InvalidRequest(f"limit is {text[:32]!r}; allowed: 1 to {most}", field="limit")
    return int(text)
