from dataclasses import replace

import pytest

from services.core.api_key import ApiKey, caller_by_key, check_name, draw_secret, key_id_of
from services.core.caller import Caller, Limits, Scope
from services.core.errors import InvalidRequest, PermissionDenied, Unauthenticated

SECRET = draw_secret()
KEY = ApiKey(
    key_id=SECRET.key_id,
    sha256=SECRET.sha256,
    name="n",
    tenant="t",
    scopes=frozenset({Scope.INFERENCE}),
    models=frozenset({"m"}),
    limits=Limits(requests_per_min=1),
    created_unix_s=0,
)


def test_the_right_key_says_who_brings_it():
    caller = caller_by_key(SECRET.text, KEY, now_unix_s=1)
    assert caller == Caller("t", KEY.key_id, "n", KEY.scopes, KEY.models, KEY.limits)


def test_the_record_does_not_hold_the_secret():
    assert SECRET.text not in repr(KEY)
    assert key_id_of(SECRET.text) == KEY.key_id


@pytest.mark.parametrize("text", ["", "tm-", "sk-abc", SECRET.text[:-1], SECRET.text + "a"])
def test_what_is_no_key_names_no_record(text: str):
    assert key_id_of(text) is None


def test_a_key_with_another_ones_id_is_refused():
    forged = SECRET.text[:-1] + ("a" if SECRET.text[-1] != "a" else "b")
    for key in (KEY, None):
        with pytest.raises(Unauthenticated):
            caller_by_key(forged, key, now_unix_s=1)


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (replace(KEY, expires_unix_s=10), "API_KEY_EXPIRED"),
        (replace(KEY, revoked_unix_s=10), "API_KEY_REVOKED"),
    ],
)
def test_a_key_that_has_ended_says_so_to_its_bearer_only(ended: ApiKey, reason: str):
    assert caller_by_key(SECRET.text, ended, now_unix_s=9)
    with pytest.raises(Unauthenticated) as caught:
        caller_by_key(SECRET.text, ended, now_unix_s=10)
    assert caught.value.reason == reason
    with pytest.raises(Unauthenticated) as caught:
        caller_by_key(draw_secret().text, ended, now_unix_s=10)
    assert caught.value.reason == "INVALID_API_KEY"


def test_a_caller_may_do_what_its_key_says():
    caller = KEY.caller()
    caller.require(Scope.INFERENCE)
    caller.require_model("m")
    with pytest.raises(PermissionDenied):
        caller.require(Scope.SESSIONS)
    with pytest.raises(PermissionDenied):
        caller.require_model("other")


@pytest.mark.parametrize("name", ["", " a", "a" * 101, "a\nb", "<b>"])
def test_a_name_that_is_no_safe_text_is_refused(name: str):
    with pytest.raises(InvalidRequest):
        check_name(name, field="name")
