"""Whether a caller wants kept results, as headers say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.core.caller import Caller
from services.core.errors import InvalidRequest

HEADER = "X-Result-Cache"
_SWITCH = {"on": True, "off": False}
_MAX_AGE = "max-age="


@dataclass(frozen=True, slots=True)
class CacheWish:
    """What the result cache may do for a request.

    Attributes:
        is_on: use it at all.
        may_read: a kept answer may be given.
        may_write: the answer may be kept.
        max_age_s: of a kept answer; None: as old as they get.
    """

    is_on: bool = False
    may_read: bool = True
    may_write: bool = True
    max_age_s: int | None = None


NO_CACHE = CacheWish()


def wish_of(headers: Mapping[str, str], caller: Caller) -> CacheWish:
    """The wish of a request: its header, else its key's setting; HTTP's own directives narrow it.

    Args:
        headers: or gRPC metadata; names in lower case.
        caller: who asks.

    Raises:
        InvalidRequest: names the header.
    """
    given = headers.get(HEADER.lower())
    if given is not None and given.strip().lower() not in _SWITCH:
        raise InvalidRequest(f"{HEADER} is {given[:64]!r}; allowed: on, off", field=HEADER)
    is_on = caller.caches_results if given is None else _SWITCH[given.strip().lower()]
    if not is_on:
        return NO_CACHE
    # Those of others are for proxies: HTTP says to pass over what one does not know.
    directives = {
        one.strip().lower() for one in headers.get("cache-control", "").split(",") if one.strip()
    }
    keeps_off = "no-store" in directives
    return CacheWish(
        is_on=True,
        may_read=not keeps_off and "no-cache" not in directives,
        may_write=not keeps_off,
        max_age_s=_max_age_s(directives),
    )


def _max_age_s(directives: set[str]) -> int | None:
    given = [one.removeprefix(_MAX_AGE) for one in directives if one.startswith(_MAX_AGE)]
    for text in given:
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise InvalidRequest(
                f"Cache-Control has max-age={text[:32]}; allowed: whole seconds",
                field="Cache-Control",
            )
    return min((int(text) for text in given), default=None)
