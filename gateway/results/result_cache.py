"""Finds and keeps answers; shared by all gateways, bounded, and never in the way."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.metrics import RESULT_CACHE
from gateway.requests.choice import Choice
from gateway.results.entry import KeptAnswer, KeptChoice, decode_answer, encode_answer
from gateway.results.key import is_repeatable, result_key
from gateway.results.wish import CacheWish
from services.core.errors import TokenmillError
from services.core.request import FinishReason, QueuedRequest
from services.core.sampling import SamplingParams
from services.runtime.logs import get_logger
from services.wire.subjects import token

log = get_logger(__name__)

PATIENCE_S = 0.5
"""A broker that needs longer costs an answer that is computed anew, not more time than that."""


class Outcome(enum.StrEnum):
    """What the cache did, as the header says it."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class ResultBucket(Protocol):
    """What the cache needs of services.runtime.bounded_bucket.BoundedBucket."""

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Writes whatever was there before."""
        ...


@dataclass(frozen=True, slots=True)
class Lookup:
    """What became of one ask.

    Attributes:
        outcome: None: it was not asked for.
        kept: of a hit.
        age_s: of it.
        key: under which the answer may be kept; empty: it must not.
        identity: of the model when it was looked up.
    """

    outcome: Outcome | None = None
    kept: KeptAnswer | None = None
    age_s: int = 0
    key: str = ""
    identity: str = ""


NOT_ASKED = Lookup()


class ResultCache:
    """Opt-in, for asks whose text is certain.

    Args:
        bucket: where answers are; None: the cache is off, and everything passes it by.
        max_entry_bytes: of one answer.
        identity_of: of the weights that a model's workers have now; empty: not known, or they
            differ.
    """

    def __init__(
        self,
        bucket: ResultBucket | None,
        *,
        max_entry_bytes: int,
        identity_of: Callable[[str], str],
    ) -> None:
        self._bucket = bucket
        self._max_entry_bytes = max_entry_bytes
        self._identity_of = identity_of

    async def look_up(
        self, wish: CacheWish, sampling: SamplingParams, requests: Sequence[QueuedRequest]
    ) -> Lookup:
        """What is kept for an ask; a broker that is late or away is a miss.

        Args:
            wish: of the caller.
            sampling: as the caller wrote it: only there a seed is its own.
            requests: admitted, all choices.
        """
        if not wish.is_on:
            return NOT_ASKED
        found = await self._look_up(wish, sampling, requests)
        assert found.outcome is not None
        RESULT_CACHE.labels(found.outcome.value).inc()
        return found

    async def keep(self, lookup: Lookup, choices: Sequence[Choice]) -> None:
        """Keeps an answer that is whole; what cannot be kept is not."""
        if self._bucket is None or not lookup.key or lookup.outcome is not Outcome.MISS:
            return
        live = choices[0].live
        if self._identity_of(live.request.model) != lookup.identity:
            # Another model may have given it.
            return
        answer = KeptAnswer(int(time.time() * 1000), tuple(_kept(choice) for choice in choices))
        payload = encode_answer(answer)
        if len(payload) > self._max_entry_bytes:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._bucket.put(lookup.key, payload)
        except (TokenmillError, TimeoutError) as exc:
            log.warning("result.not_kept", size_bytes=len(payload), error=repr(exc))

    async def _look_up(
        self, wish: CacheWish, sampling: SamplingParams, requests: Sequence[QueuedRequest]
    ) -> Lookup:
        identity = self._identity_of(requests[0].model)
        is_certain = is_repeatable(sampling) and bool(identity)
        if self._bucket is None or not is_certain or not (wish.may_read or wish.may_write):
            return Lookup(Outcome.BYPASS)
        key = f"{token(requests[0].tenant)}.{result_key(requests, identity)}"
        miss = Lookup(Outcome.MISS, key=key if wish.may_write else "", identity=identity)
        kept = await self._read(key) if wish.may_read else None
        if kept is None or len(kept.choices) != len(requests):
            return miss
        age_s = max(0, int(time.time() - kept.kept_unix_ms / 1000))
        if wish.max_age_s is not None and age_s > wish.max_age_s:
            return miss
        return Lookup(Outcome.HIT, kept, age_s)

    async def _read(self, key: str) -> KeptAnswer | None:
        assert self._bucket is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                value, _ = await self._bucket.read(key)
        except (TokenmillError, TimeoutError) as exc:
            log.warning("result.not_read", error=repr(exc))
            return None
        return decode_answer(value) if value else None


def _kept(choice: Choice) -> KeptChoice:
    """As far as the caller saw it: behind a stop string may be more."""
    live, num_tokens = choice.live, choice.num_tokens
    return KeptChoice(
        tuple(live.token_ids[:num_tokens]),
        live.finish_reason or FinishReason.STOP,
        tuple(live.logprobs[:num_tokens]),
        live.prompt_logprobs,
    )
