"""How the C library's allocator treats memory that was freed."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 128 << 20
_TOP_PAD_BYTES = 16 << 20
_MAX_HEAP_BYTES = 32 << 20
"""The most that glibc takes for it."""


def keep_freed_memory() -> None:
    """From now on freed memory is kept for the next use, up to a bound, in place of given back.

    For processes through which blocks of many hundred kilobytes flow: otherwise each comes into
    pages that the system has just cleared, a fault for each, which costs as much as the copy.
    Does nothing where the C library is another than glibc. Twice is safe.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAX_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
