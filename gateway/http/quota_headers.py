"""What is left of a caller's limits, as OpenAI's reply headers say it."""

from __future__ import annotations

from services.core.quota import QuotaStatus

Headers = list[tuple[bytes, bytes]]


def quota_headers(status: QuotaStatus) -> Headers:
    """`x-ratelimit-*`; none where there is no limit."""
    headers: Headers = []
    for kind, left in (("requests", status.requests), ("tokens", status.tokens)):
        if left is not None:
            for name, value in (
                ("limit", str(left.limit)),
                ("remaining", str(left.remaining)),
                ("reset", f"{left.reset_s}s"),
            ):
                headers.append((f"x-ratelimit-{name}-{kind}".encode(), value.encode()))
    return headers
