from dataclasses import fields, replace
from typing import Any

from gateway.results.key import is_repeatable, result_key
from services.core.request import QueuedRequest, RequestClass
from services.core.sampling import SamplingParams

GREEDY = SamplingParams(max_tokens=4, temperature=0, seed=7)
REQUEST = QueuedRequest(
    "req-1", 1, "m", (1, 2), GREEDY, "acme", "", 0, "here", RequestClass.INTERACTIVE, 0
)
OTHER: dict[str, Any] = {
    "max_tokens": 5,
    "min_tokens": 1,
    "temperature": 0.5,
    "top_k": 3,
    "top_p": 0.9,
    "min_p": 0.1,
    "stop": ("a",),
    "stop_token_ids": (3,),
    "ignore_eos": True,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "logit_bias": ((1, 2.0),),
    "allowed_token_ids": (1,),
    "banned_token_ids": (1,),
    "logprobs": 0,
    "prompt_logprobs": 0,
}


def key(request: QueuedRequest = REQUEST, identity: str = "weights") -> str:
    return result_key([request], identity)


def test_everything_that_decides_the_text_is_in_the_key():
    assert set(OTHER) == {field.name for field in fields(SamplingParams)} - {"seed"}
    others = [
        replace(REQUEST, sampling=replace(GREEDY, **{name: value})) for name, value in OTHER.items()
    ]
    others += [replace(REQUEST, **{name: "other"}) for name in ("model", "tenant")]
    others.append(replace(REQUEST, prompt_token_ids=(1, 3)))
    keys = {
        key(),
        key(identity="other"),
        *map(key, others),
        result_key([REQUEST, REQUEST], "weights"),
    }
    assert len(keys) == 3 + len(others)


def test_what_does_not_decide_it_is_not():
    other = replace(
        REQUEST,
        request_id="req-2",
        attempt=2,
        session_id="s",
        deadline_unix_ms=9,
        reply_to="there",
        request_class=RequestClass.BATCH,
        accepted_unix_ms=9,
    )
    assert key(other) == key()


def test_a_seed_decides_only_where_something_is_drawn():
    warm = replace(GREEDY, temperature=1.0)
    assert key(replace(REQUEST, sampling=replace(GREEDY, seed=8))) == key()
    assert key(replace(REQUEST, sampling=warm)) != key(
        replace(REQUEST, sampling=replace(warm, seed=8))
    )


def test_greedy_or_seeded_text_is_certain():
    assert is_repeatable(SamplingParams(temperature=0))
    assert is_repeatable(SamplingParams(seed=0))
    assert not is_repeatable(SamplingParams())
