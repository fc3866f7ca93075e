"""Which ranges of a fixed space are free."""

from __future__ import annotations

from bisect import bisect_left

ALIGN_BYTES = 4096


class Extents:
    """First fit over a list of free ranges, neighbours merged. All ranges are whole pages."""

    def __init__(self, size_bytes: int) -> None:
        # Both in order of place; ranges never touch each other.
        self._starts: list[int] = []
        self._sizes: list[int] = []
        whole = size_bytes - size_bytes % ALIGN_BYTES
        if whole:
            self._starts.append(0)
            self._sizes.append(whole)

    @property
    def free_bytes(self) -> int:
        """Bytes in free ranges, however scattered."""
        return sum(self._sizes)

    def take(self, size_bytes: int) -> int | None:
        """Start of a range that is the caller's now; None if no free range is large enough."""
        wanted = _whole_pages(size_bytes)
        for idx, size in enumerate(self._sizes):
            if size < wanted:
                continue
            start = self._starts[idx]
            self._cut(idx, start, wanted)
            return start
        return None

    def take_at(self, start: int, size_bytes: int) -> bool:
        """Takes this very range; False if part of it is not free."""
        wanted = _whole_pages(size_bytes)
        idx = bisect_left(self._starts, start + 1) - 1
        if idx < 0 or start % ALIGN_BYTES:
            return False
        free_start, free_size = self._starts[idx], self._sizes[idx]
        if start + wanted > free_start + free_size:
            return False
        self._cut(idx, start, wanted)
        return True

    def give_back(self, start: int, size_bytes: int) -> None:
        """Frees a range that was taken."""
        size = _whole_pages(size_bytes)
        idx = bisect_left(self._starts, start)
        if idx < len(self._starts) and start + size == self._starts[idx]:
            size += self._sizes.pop(idx)
            self._starts.pop(idx)
        if idx and self._starts[idx - 1] + self._sizes[idx - 1] == start:
            self._sizes[idx - 1] += size
        else:
            self._starts.insert(idx, start)
            self._sizes.insert(idx, size)

    def _cut(self, idx: int, start: int, size: int) -> None:
        free_start, free_size = self._starts[idx], self._sizes[idx]
        pieces = (
            (free_start, start - free_start),
            (start + size, free_start + free_size - start - size),
        )
        left = [piece for piece in pieces if piece[1]]
        self._starts[idx : idx + 1] = [piece[0] for piece in left]
        self._sizes[idx : idx + 1] = [piece[1] for piece in left]


def _whole_pages(size_bytes: int) -> int:
    return max(1, -(-size_bytes // ALIGN_BYTES)) * ALIGN_BYTES
