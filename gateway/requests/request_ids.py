"""Request ids: the caller's own for the caller, one that was never used before for the cluster."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from services.core.request import is_request_id, new_request_id


@dataclass(frozen=True, slots=True)
class RequestIds:
    """One request's two ids; equal unless the caller brought its own.

    Attributes:
        shown: echoed to the caller.
        own: names the request in queue, workers and logs. A proxy that retries brings the same id
            again, maybe to another gateway, while queue and schedulers drop what they saw lately.
            It is never to be guessed: a worker that attaches proves by it that it was given the
            request.
    """

    shown: str
    own: str


def request_ids(asked: str) -> RequestIds:
    """Ids of a new request; an asked id that is no safe name counts as none."""
    if not is_request_id(asked):
        drawn = new_request_id()
        return RequestIds(drawn, drawn)
    own = f"{asked}.{secrets.token_hex(12)}"
    return RequestIds(asked, own if is_request_id(own) else new_request_id())


def choice_request_id(own: str, choice_idx: int) -> str:
    """What the cluster calls one choice of a request; the first bears the request's own id.

    It can be no other request's: an own id ends in hexadecimal that nobody can guess.
    """
    return own if choice_idx == 0 else f"{own}-{choice_idx}"
