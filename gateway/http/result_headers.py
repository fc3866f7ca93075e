"""What the result cache did, in reply headers."""

from __future__ import annotations

from gateway.http.errors import Headers
from gateway.results.result_cache import Lookup
from gateway.results.wish import HEADER


def result_headers(lookup: Lookup) -> Headers:
    """`X-Result-Cache`, and `Age` of a kept answer; none if the cache was not asked for."""
    if lookup.outcome is None:
        return []
    headers = [(HEADER.lower().encode(), lookup.outcome.value.encode())]
    if lookup.kept is not None:
        headers.append((b"age", str(lookup.age_s).encode()))
    return headers
