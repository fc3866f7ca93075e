"""What waits to be written to one gateway."""

from __future__ import annotations

from collections.abc import Sequence

from services.core.delivery import (
    NO_NEXT_TOKENS,
    Attach,
    NextTokens,
    RequestDelta,
    StepFrame,
    WorkerHello,
    WorkerMessage,
)


class Outbox:
    """Bounded by tokens. Frames that wait are merged: who is behind gets fewer, larger frames.

    Args:
        max_tokens: new tokens that may wait.
    """

    def __init__(self, *, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._first: list[WorkerMessage] = []
        self._frames: list[StepFrame] = []
        self._num_tokens = 0
        self._last_step_idx = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._first and not self._frames

    @property
    def is_over(self) -> bool:
        """Whether more waits than may."""
        return self._num_tokens > self._max_tokens

    def add(self, message: WorkerHello | Attach) -> None:
        """Adds what goes before all frames; bounded by the requests that may be on a worker."""
        self._first.append(message)

    def add_news(
        self,
        deltas: Sequence[RequestDelta],
        nexts: NextTokens = NO_NEXT_TOKENS,
        *,
        step_idx: int = 0,
    ) -> None:
        """Adds news.

        Args:
            deltas: at most one per handle.
            nexts: of other handles.
            step_idx: the step that they come from; 0 for what was held back over several.
        """
        self._last_step_idx = max(self._last_step_idx, step_idx)
        self._frames.append(StepFrame(self._last_step_idx, deltas, nexts))
        self._num_tokens += len(nexts)
        for delta in deltas:
            self._num_tokens += len(delta.token_ids) + len(delta.prompt_logprobs)

    def take(self) -> list[WorkerMessage]:
        """All that waits, in the order to write it."""
        messages, self._first = self._first, []
        if self._frames:
            messages.append(_merged(self._frames))
            self._frames = []
            self._num_tokens = 0
        return messages


def _merged(frames: Sequence[StepFrame]) -> StepFrame:
    """Successive frames as one; at least one."""
    if len(frames) == 1:
        return frames[0]
    by_handle: dict[int, list[RequestDelta]] = {}
    for frame in frames:
        for delta in (*frame.deltas, *frame.nexts.deltas()):
            by_handle.setdefault(delta.handle, []).append(delta)
    return StepFrame(frames[-1].step_idx, [merge_deltas(deltas) for deltas in by_handle.values()])


def merge_deltas(deltas: Sequence[RequestDelta]) -> RequestDelta:
    """Successive news of one request as one; at least one."""
    first, last = deltas[0], deltas[-1]
    if first is last:
        return first
    return RequestDelta(
        handle=first.handle,
        first_position=first.first_position,
        token_ids=[token_id for delta in deltas for token_id in delta.token_ids],
        finish_reason=last.finish_reason,
        error_message=last.error_message,
        cached_tokens=first.cached_tokens,
        logprobs=tuple(entry for delta in deltas for entry in delta.logprobs),
        prompt_logprobs=first.prompt_logprobs,
    )
