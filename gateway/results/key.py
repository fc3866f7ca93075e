"""What decides the text of an answer, as one name. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace

import msgspec

from services.core.request import QueuedRequest
from services.core.sampling import SamplingParams

_FORMAT = 1
"""Rises when entries or keys change their meaning."""


def is_repeatable(sampling: SamplingParams) -> bool:
    """Whether the caller's sampling gives the same text each time: greedy, or a seed of its own."""
    return sampling.temperature == 0 or sampling.seed is not None


def result_key(requests: Sequence[QueuedRequest], identity: str) -> str:
    """Name of the answer to these choices of one ask, in order.

    Args:
        requests: admitted: with prompt ids, and sampling as it is used.
        identity: of the weights and their numerics.
    """
    first = requests[0]
    choices = [(one.prompt_token_ids, asdict(_deciding(one.sampling))) for one in requests]
    text = msgspec.json.encode([_FORMAT, first.tenant, first.model, identity, choices])
    return hashlib.sha256(text).hexdigest()


def _deciding(sampling: SamplingParams) -> SamplingParams:
    """Greedy choice draws nothing: a seed that was drawn for it must not tell two asks apart."""
    return replace(sampling, seed=None) if sampling.temperature == 0 else sampling
