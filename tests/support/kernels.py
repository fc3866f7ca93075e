"""Where the native kernels cannot run, tests of them are skipped, with the reason."""

from __future__ import annotations

from types import ModuleType

import pytest

from worker.kernels.build import (
    INSTRUCTION_SETS,
    KernelsUnavailable,
    choose_instruction_set,
    load_kernels,
)

BUILDS = tuple(each.name for each in INSTRUCTION_SETS)
"""Of the kernels, by name."""


def require_kernels(name: str = "auto") -> ModuleType:
    """The kernels of a build; skips the test on a machine without the instructions or without a
    compiler."""
    try:
        return load_kernels(choose_instruction_set(name))
    except KernelsUnavailable as exc:
        pytest.skip(str(exc))
