import pytest

from gateway.results.wish import NO_CACHE, CacheWish, wish_of
from services.core.caller import Caller
from services.core.errors import InvalidRequest

PLAIN, OPTED_IN = Caller(), Caller(caches_results=True)


@pytest.mark.parametrize(
    ("headers", "caller", "wish"),
    [
        ({}, PLAIN, NO_CACHE),
        ({"cache-control": "max-age=5"}, PLAIN, NO_CACHE),
        ({"x-result-cache": "on"}, PLAIN, CacheWish(is_on=True)),
        ({"x-result-cache": " ON "}, PLAIN, CacheWish(is_on=True)),
        ({}, OPTED_IN, CacheWish(is_on=True)),
        ({"x-result-cache": "off"}, OPTED_IN, NO_CACHE),
        (
            {"x-result-cache": "on", "cache-control": "No-Cache, private"},
            PLAIN,
            CacheWish(is_on=True, may_read=False),
        ),
        (
            {"cache-control": "no-store"},
            OPTED_IN,
            CacheWish(is_on=True, may_read=False, may_write=False),
        ),
        ({"cache-control": "max-age=60"}, OPTED_IN, CacheWish(is_on=True, max_age_s=60)),
    ],
)
def test_header_key_and_directives_say_what_may_be_done(headers, caller, wish):
    assert wish_of(headers, caller) == wish


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"x-result-cache": "yes"}, "X-Result-Cache"),
        ({"x-result-cache": "on", "cache-control": "max-age=soon"}, "Cache-Control"),
    ],
)
def test_what_is_no_wish_is_refused_by_name(headers, field):
    with pytest.raises(InvalidRequest) as refused:
        wish_of(headers, PLAIN)
    assert refused.value.field == field
