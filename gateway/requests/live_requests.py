"""All requests that this gateway owns."""

from __future__ import annotations

from gateway.loss_order import Newcomer, Standing, choose_losses
from gateway.requests.live_request import LiveRequest
from services.core.errors import Conflict, Overloaded


class LiveRequests:
    """Requests by id, at most `max_requests` of them.

    Args:
        max_requests: owned at once.
        max_untaken_tokens: see GatewaySettings.
    """

    def __init__(self, *, max_requests: int, max_untaken_tokens: int) -> None:
        self._max_untaken_tokens = max_untaken_tokens
        self._max_requests = max_requests
        self._live: dict[str, LiveRequest] = {}
        self._displaced: set[str] = set()

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._live

    @property
    def num_running(self) -> int:
        """Requests that a worker delivers for; the others wait in the queue."""
        return sum(live.attachment is not None for live in self._live.values())

    def make_room(self, newcomer: Newcomer, *, retry_after_s: float) -> None:
        """Early, before work is spent on what has no place; who gives way, loss_order says.

        Raises:
            Overloaded: full, and nobody gives way for it.
        """
        if len(self._live) + newcomer.num_requests <= self._max_requests:
            return
        # Who was told to give way is on its way out.
        staying = [live for key, live in self._live.items() if key not in self._displaced]
        if len(staying) + newcomer.num_requests <= self._max_requests:
            return
        losses = choose_losses(
            [_standing(live) for live in staying], newcomer, max_requests=self._max_requests
        )
        if losses is None:
            raise Overloaded(
                f"this gateway owns {len(self._live)} requests; the limit is {self._max_requests}",
                retry_after_s=retry_after_s,
                reason="GATEWAY_FULL",
            )
        for request_id in losses:
            self._displaced.add(request_id)
            self._live[request_id].fail(
                Overloaded(
                    "this gateway is full, and more urgent requests came",
                    retry_after_s=retry_after_s,
                    reason="DISPLACED",
                )
            )

    def add(self, live: LiveRequest) -> None:
        """Takes ownership.

        Raises:
            Conflict: a request of this id is live.
        """
        request_id = live.request.request_id
        if request_id in self._live:
            raise Conflict(f"a request {request_id} is live; its id must not be used again")
        live.max_untaken = self._max_untaken_tokens
        self._live[request_id] = live

    def remove(self, request_id: str) -> None:
        """Gives ownership up. Twice is safe."""
        self._live.pop(request_id, None)
        self._displaced.discard(request_id)

    def get(self, request_id: str) -> LiveRequest | None:
        """The request, if it is live."""
        return self._live.get(request_id)

    def all(self) -> list[LiveRequest]:
        """Every live request, oldest first."""
        return list(self._live.values())


def _standing(live: LiveRequest) -> Standing:
    request = live.request
    has_begun = live.attachment is not None or bool(live.token_ids) or live.is_over
    return Standing(request.request_id, request.tenant, request.request_class, has_begun)
