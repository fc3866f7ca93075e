"""Few numbers out of many."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Smallest value that at least this share of the values does not exceed (nearest rank).

    Args:
        values: at least one, in any order.
        share: in (0, 1], 0.5 for the median.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
