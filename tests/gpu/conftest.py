from __future__ import annotations

import pytest
import torch


@pytest.fixture
def cuda() -> torch.device:
    """The GPU; without one the test is skipped."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")
