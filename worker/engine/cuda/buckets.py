"""Batch sizes that have a graph of their own. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_STEP_ABOVE = 32
"""Above this, sizes are this far apart: a padded row costs little beside 32 others."""


def batch_buckets(max_rows: int) -> tuple[int, ...]:
    """Sizes from 1 to at least max_rows: powers of two, then steps of 32."""
    sizes = [1]
    while sizes[-1] < max_rows:
        sizes.append(sizes[-1] * 2 if sizes[-1] < _STEP_ABOVE else sizes[-1] + _STEP_ABOVE)
    return tuple(sizes)


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int | None:
    """The smallest bucket that holds so many rows; None if none does."""
    idx = bisect_left(buckets, num_rows)
    return buckets[idx] if idx < len(buckets) else None
