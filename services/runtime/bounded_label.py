"""A label whose values come from outside, kept to a bounded number."""

from __future__ import annotations

OTHER = "~other"


class BoundedLabel:
    """The first so many values keep their names; all that come later share one.

    A series lives as long as its process, so that a value which was seen once is never forgotten.

    Attributes:
        max_values: may be raised later; 0 puts all together.
    """

    def __init__(self, max_values: int) -> None:
        self.max_values = max_values
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        """What to label with."""
        if value in self._known:
            return value
        if len(self._known) < self.max_values:
            self._known.add(value)
            return value
        return OTHER


TENANT_LABEL = BoundedLabel(max_values=50)
"""Tenants of this process; see ProcessSettings.metrics_max_tenants."""
