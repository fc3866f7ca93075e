from __future__ import annotations

import random

from cache_service.extents import ALIGN_BYTES, Extents


def test_ranges_never_overlap_and_all_space_comes_back():
    rng = random.Random(5)
    num_pages = 64
    extents = Extents(num_pages * ALIGN_BYTES)
    taken: dict[int, int] = {}
    for _ in range(2000):
        if taken and rng.random() < 0.5:
            start = rng.choice(list(taken))
            extents.give_back(start, taken.pop(start))
        else:
            size = rng.randint(1, 5 * ALIGN_BYTES)
            start = extents.take(size)
            if start is not None:
                taken[start] = size
        pages = [
            page
            for start, size in taken.items()
            for page in range(start // ALIGN_BYTES, -(-(start + size) // ALIGN_BYTES))
        ]
        assert len(pages) == len(set(pages))
        assert extents.free_bytes == (num_pages - len(pages)) * ALIGN_BYTES
    for start, size in taken.items():
        extents.give_back(start, size)
    assert extents.take(num_pages * ALIGN_BYTES) == 0


def test_a_range_is_taken_at_its_place_once():
    extents = Extents(8 * ALIGN_BYTES)
    assert extents.take_at(2 * ALIGN_BYTES, 2 * ALIGN_BYTES)
    assert not extents.take_at(3 * ALIGN_BYTES, 1)
    assert extents.take(3 * ALIGN_BYTES) == 4 * ALIGN_BYTES
