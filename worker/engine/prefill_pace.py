"""How many prompt tokens a step may hold beside its decodes."""

from __future__ import annotations

from services.core.step_time import StepWork, prefill_room_s
from worker.engine.step_times import StepTimes


class PrefillPace:
    """Holds a target inter-token latency while prefill goes on.

    Args:
        times: of this engine's steps.
        itl_target_s: the target; 0 sets none.
        max_tokens: of any step.
        min_tokens: what a step may always hold, so that prefill advances.
    """

    def __init__(
        self, times: StepTimes, *, itl_target_s: float, max_tokens: int, min_tokens: int
    ) -> None:
        self._times = times
        self._itl_target_s = itl_target_s
        self._max_tokens = max_tokens
        self._min_tokens = min_tokens

    def max_prefill_tokens(self, decodes: StepWork) -> int:
        """Most prompt tokens beside these decodes; no limit while little is known."""
        token_s = self._times.prefill_token_s
        if not self._itl_target_s or not self._times.is_known or token_s <= 0:
            return self._max_tokens
        room_s = prefill_room_s(self._itl_target_s, self._times.step_s(decodes))
        return min(self._max_tokens, max(self._min_tokens, int(room_s / token_s)))
