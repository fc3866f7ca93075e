"""What worker and gateway say to each other on a Deliver stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """Who delivers; first on the stream."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Attach:
    """Asks to deliver for one attempt; `handle` names it on this stream from now on."""

    handle: int
    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RequestDelta:
    """New tokens of one request.

    Attributes:
        first_position: output position of token_ids[0], counted from 0 over all attempts.
        finish_reason: set in the last delta only.
        cached_tokens: prompt tokens whose K/V was reused; set in an attempt's first delta.
        logprobs: one per token, if the request asks for them.
        prompt_logprobs: of the prompt from its second token on, if asked for; set in the first
            delta of a request.
    """

    handle: int
    first_position: int
    token_ids: Sequence[int]
    finish_reason: FinishReason | None = None
    error_message: str = ""
    cached_tokens: int = 0
    logprobs: Sequence[TokenLogprobs] = ()
    prompt_logprobs: Sequence[TokenLogprobs] = ()


@dataclass(frozen=True, slots=True)
class NextTokens:
    """One new token each of many requests, and no other news of them.

    Nearly all news are such: in three sequences of one length they cost no object each.

    Attributes:
        handles: which requests.
        positions: output positions of the tokens.
        token_ids: the tokens.
    """

    handles: Sequence[int] = ()
    positions: Sequence[int] = ()
    token_ids: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.handles)

    def deltas(self) -> list[RequestDelta]:
        """The same, one by one."""
        return [
            RequestDelta(handle, position, (token_id,))
            for handle, position, token_id in zip(
                self.handles, self.positions, self.token_ids, strict=True
            )
        ]


NO_NEXT_TOKENS = NextTokens()


@dataclass(frozen=True, slots=True)
class StepFrame:
    """The new tokens of one engine step, for all requests of one gateway.

    Attributes:
        deltas: of requests with more news than one new token.
        nexts: of all others; a request is in one of the two.
    """

    step_idx: int
    deltas: Sequence[RequestDelta] = ()
    nexts: NextTokens = NO_NEXT_TOKENS


@dataclass(frozen=True, slots=True)
class Attached:
    """The attempt may deliver, from the position after delivered_token_ids."""

    handle: int
    delivered_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """The owner does not want this attempt."""

    handle: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stops a request: nobody waits, or a stop string matched."""

    handle: int


WorkerMessage = WorkerHello | Attach | StepFrame
GatewayMessage = Attached | Gone | Cancel
