"""Few figures out of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.simulator.cluster import Answered, Outcome
from services.core.percentile import percentile

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class Slo:
    """What counts as a good answer.

    Attributes:
        ttft_s: first token at the latest.
        tpot_s: mean time of each further token at most.
    """

    ttft_s: float = 5.0
    tpot_s: float = 0.1

    def is_met(self, answer: Answered) -> bool:
        """Whether this answer was good."""
        tpot_s = (answer.latency_s - answer.ttft_s) / max(1, answer.request.num_output - 1)
        return answer.ttft_s <= self.ttft_s and tpot_s <= self.tpot_s


def summarise(outcome: Outcome, slo: Slo) -> dict[str, Any]:
    """Figures of one policy, as `simulate --json` prints them."""
    answered = outcome.answered
    span_s = max(1e-9, outcome.ended_s)
    prompt_tokens = sum(answer.request.num_prompt for answer in answered)
    mean_busy_s = sum(outcome.busy_s) / max(1, len(outcome.busy_s))
    return {
        "ttft_ms": _spread([answer.ttft_s * _MS for answer in answered]),
        "latency_ms": _spread([answer.latency_s * _MS for answer in answered]),
        "hit_share": round(
            sum(answer.cached_tokens for answer in answered) / max(1, prompt_tokens), 4
        ),
        "goodput_rps": round(sum(map(slo.is_met, answered)) / span_s, 3),
        "good_share": round(
            sum(map(slo.is_met, answered))
            / max(1, len(answered) + outcome.num_refused + outcome.num_expired),
            4,
        ),
        "answered": len(answered),
        "rejected": outcome.num_refused + outcome.num_expired,
        "refused": outcome.num_refused,
        "expired": outcome.num_expired,
        "throughput_rps": round(len(answered) / span_s, 3),
        "worker_imbalance": round(max(outcome.busy_s, default=0.0) / max(1e-9, mean_busy_s), 3),
        "utilisation": round(mean_busy_s / span_s, 3),
        "preemptions": outcome.num_preemptions,
        "simulated_s": round(outcome.ended_s, 1),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"p50": 0.0, "p90": 0.0, "p99": 0.0}
    return {
        name: round(percentile(values, share), 2)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }
