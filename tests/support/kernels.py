"""Where the native kernels cannot run, tests of them are skipped, with the reason."""

from __future__ import annotations

import pytest

from worker.kernels.build import KernelsUnavailable, load_kernels


def require_kernels() -> None:
    """Skips the test on a machine without the instructions or without a compiler."""
    try:
        load_kernels()
    except KernelsUnavailable as exc:
        pytest.skip(str(exc))
