"""Rates and percentiles of the last half minute. Pure: time comes in as an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.core.percentile import percentile

WINDOW_S = 30.0
MAX_SAMPLES = 4096
"""Answers kept; under more load the window is shorter."""


@dataclass(frozen=True, slots=True)
class _Answer:
    ended_s: float
    ttft_ms: float | None
    gap_ms: float | None
    is_failed: bool
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class RecentFigures:
    """Figures of the window; None where nothing was measured.

    Attributes:
        requests_per_s: answers that ended, failed ones included.
        tokens_per_s: that clients were given.
        ttft_ms, itl_ms: p50, p90 and p99; itl of an answer is its mean.
        hit_share: of the prompt tokens, what was found in a cache.
    """

    requests_per_s: float
    tokens_per_s: float
    failed_per_s: float
    ttft_ms: dict[str, float] | None
    itl_ms: dict[str, float] | None
    hit_share: float | None = None


class RecentAnswers:
    """Remembers answers and tokens; bounded in time and number."""

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=MAX_SAMPLES)
        self._tokens: deque[tuple[int, int]] = deque(maxlen=int(WINDOW_S) + 2)

    def tokens_came(self, num_tokens: int, now_s: float) -> None:
        """Tokens went out to a client."""
        second = int(now_s)
        if self._tokens and self._tokens[-1][0] == second:
            self._tokens[-1] = (second, self._tokens[-1][1] + num_tokens)
        else:
            self._tokens.append((second, num_tokens))

    def ended(
        self,
        now_s: float,
        *,
        ttft_s: float | None,
        gap_s: float | None,
        is_failed: bool,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
    ) -> None:
        """An answer ended, one way or the other; tokens of its prompt as far as they are known."""
        self._answers.append(
            _Answer(now_s, _ms(ttft_s), _ms(gap_s), is_failed, prompt_tokens, cached_tokens)
        )

    def figures(self, now_s: float) -> RecentFigures:
        """The window that ends now."""
        since_s = now_s - WINDOW_S
        answers = [answer for answer in self._answers if answer.ended_s >= since_s]
        num_tokens = sum(count for second, count in self._tokens if second >= since_s)
        prompt_tokens = sum(answer.prompt_tokens for answer in answers)
        cached_tokens = sum(answer.cached_tokens for answer in answers)
        return RecentFigures(
            requests_per_s=len(answers) / WINDOW_S,
            tokens_per_s=num_tokens / WINDOW_S,
            failed_per_s=sum(answer.is_failed for answer in answers) / WINDOW_S,
            ttft_ms=percentiles([a.ttft_ms for a in answers if a.ttft_ms is not None]),
            itl_ms=percentiles([a.gap_ms for a in answers if a.gap_ms is not None]),
            hit_share=cached_tokens / prompt_tokens if prompt_tokens else None,
        )


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p90 and p99 by nearest rank; None of nothing."""
    if not values:
        return None
    return {f"p{share}": percentile(values, share / 100) for share in (50, 90, 99)}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


RECENT = RecentAnswers()
"""Of this process, as its Prometheus metrics are."""
