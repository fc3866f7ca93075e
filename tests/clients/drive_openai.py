"""The `openai` package against a cluster: `make client-openai`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from checks import check, main, raised, target

TARGET = target()
BASE = f"{TARGET.url}/v1"
CLIENT: Any = openai.OpenAI(base_url=BASE, api_key=TARGET.key, max_retries=0, timeout=60)
HI: list[Any] = [{"role": "user", "content": "Name three colours."}]
CHAT: dict[str, Any] = {
    "model": TARGET.model,
    "messages": HI,
    "temperature": 0,
    "max_completion_tokens": 12,
}


def create(**more: Any) -> Any:
    return CLIENT.chat.completions.create(**{**CHAT, **more})


@check
def models_are_listed_and_retrieved():
    assert [model.id for model in CLIENT.models.list()] == [TARGET.model]
    assert CLIENT.models.retrieve(TARGET.model).object == "model"


@check
def a_chat_reply_is_whole():
    reply = create()
    (choice,) = reply.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.refusal is None
    assert choice.finish_reason in ("length", "stop")
    assert reply.object == "chat.completion"
    assert reply.id.startswith("chatcmpl-")
    assert reply._request_id
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens <= 12


@check
def a_stream_says_the_same_as_the_whole_reply():
    chunks = list(create(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == create().choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


@check
def the_stream_helper_gathers_a_completion():
    whole = create().choices[0].message.content
    # The helper refuses an answer that was cut at its length.
    with CLIENT.chat.completions.stream(**CHAT, stop=whole.split()[-1]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert whole.startswith(final.choices[0].message.content)


@check
async def the_async_client_answers_and_streams():
    async with openai.AsyncOpenAI(base_url=BASE, api_key=TARGET.key, max_retries=0) as made:
        client: Any = made
        reply = await client.chat.completions.create(**CHAT)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == reply.choices[0].message.content


@check
def n_choices_come_whole_and_streamed():
    sampled = {"n": 3, "temperature": 1, "seed": 7}
    whole = [choice.message.content for choice in create(**sampled).choices]
    assert len(whole) == 3
    streamed = ["", "", ""]
    for chunk in create(**sampled, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == whole


@check
def a_seed_gives_the_same_text_again():
    first, second = (create(temperature=1, seed=11).choices[0].message.content for _ in range(2))
    assert first == second


@check
def stop_ends_the_text_before_it():
    whole = create().choices[0].message.content
    word = whole.split()[1]
    reply = create(stop=[word]).choices[0]
    assert reply.finish_reason == "stop"
    assert reply.message.content == whole[: whole.index(word)]


@check
def logprobs_tell_each_token_and_its_rivals():
    reply = create(logprobs=True, top_logprobs=3).choices[0]
    content = reply.logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode() == reply.message.content
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token


@check
def logit_bias_bans_a_token():
    first = create(logprobs=True, max_completion_tokens=1).choices[0].logprobs.content[0].token
    ids = CLIENT.post("/../tokenize", body={"prompt": first}, cast_to=dict)["tokens"]
    other = create(logit_bias={str(ids[0]): -100}, max_completion_tokens=1)
    assert other.choices[0].message.content != first


@check
def content_may_come_as_parts():
    parts = [{"type": "text", "text": "Name three "}, {"type": "text", "text": "colours."}]
    reply = create(messages=[{"role": "user", "content": parts}])
    assert reply.choices[0].message.content == create().choices[0].message.content


@check
def an_answer_goes_back_as_history():
    first = create().choices[0].message
    reply = create(messages=[*HI, first, {"role": "user", "content": "And three more?"}])
    assert reply.choices[0].message.content


@check
def completions_are_whole_streamed_and_echoed():
    asked = {"model": TARGET.model, "prompt": "One, two,", "max_tokens": 5, "temperature": 0}
    text = CLIENT.completions.create(**asked).choices[0].text
    chunks = CLIENT.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    echoed = CLIENT.completions.create(**asked, echo=True, logprobs=1).choices[0]
    assert echoed.text == "One, two," + text
    assert "".join(echoed.logprobs.tokens) == echoed.text
    assert echoed.logprobs.token_logprobs[0] is None


@check
def several_prompts_give_choices_in_their_order():
    asked = {"model": TARGET.model, "max_tokens": 4, "temperature": 0}
    prompts = ["One, two,", "The sky is"]
    alone = [
        CLIENT.completions.create(**asked, prompt=prompt).choices[0].text for prompt in prompts
    ]
    together = CLIENT.completions.create(**asked, prompt=prompts)
    assert [choice.text for choice in together.choices] == alone
    assert [choice.index for choice in together.choices] == [0, 1]


@check
def a_response_is_made_continued_retrieved_and_deleted():
    asked = {"model": TARGET.model, "temperature": 0, "max_output_tokens": 16}
    first = CLIENT.responses.create(**asked, input="Name a colour.", instructions="Be short.")
    assert first.output_text
    assert first.usage.output_tokens > 0
    assert CLIENT.responses.retrieve(first.id).output_text == first.output_text
    second = CLIENT.responses.create(**asked, input="Another.", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    items = CLIENT.responses.input_items.list(second.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    CLIENT.responses.delete(first.id)
    raised(openai.NotFoundError, lambda: CLIENT.responses.retrieve(first.id))


@check
def a_response_streams_typed_events():
    asked = {"model": TARGET.model, "input": "Name a colour.", "max_output_tokens": 16}
    events = list(CLIENT.responses.create(**asked, temperature=0, stream=True))
    final = events[-1].response
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text


@check
def a_background_response_is_cancelled():
    made = CLIENT.responses.create(
        model=TARGET.model, input="Count to a thousand.", background=True, max_output_tokens=2000
    )
    assert made.status == "queued"
    assert CLIENT.responses.cancel(made.id).status == "cancelled"


@check
def errors_are_the_classes_that_users_catch():
    wrong = CLIENT.with_options(api_key="tm-wrong")
    for kind, code, param, work in (
        (openai.AuthenticationError, "invalid_api_key", None, lambda: wrong.models.list()),
        (openai.NotFoundError, "model_not_found", "model", lambda: create(model="none")),
        (openai.BadRequestError, None, "temperature", lambda: create(temperature=3)),
        (openai.BadRequestError, None, "max_completion_tokens", too_few),
        (openai.BadRequestError, "context_length_exceeded", "messages", too_long),
        (openai.BadRequestError, "unsupported_field", "tools", with_tools),
        (openai.BadRequestError, None, "stream_options", lambda: create(stream_options={})),
        (openai.BadRequestError, None, "unheard_of", lambda: create(extra_body={"unheard_of": 1})),
    ):
        exc = raised(kind, work)
        assert exc.param == param, (exc.param, param)
        assert exc.type == "invalid_request_error", exc.type
        assert code is None or exc.code == code, (exc.code, code)
        assert exc.request_id


def too_few():
    create(max_completion_tokens=0)


def too_long():
    create(messages=[{"role": "user", "content": "word " * 20_000}])


def with_tools():
    create(tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}])


@check
def over_a_limit_is_a_rate_limit_error_and_a_retry_succeeds():
    narrow: Any = openai.OpenAI(base_url=BASE, api_key=TARGET.narrow_key, max_retries=0, timeout=60)
    # The server's answers are always slower than the second request.
    with ThreadPoolExecutor() as pool:
        running = narrow.chat.completions.create(
            **{**CHAT, "max_completion_tokens": 80}, extra_body={"ignore_eos": True}, stream=True
        )
        iterator = iter(running)
        next(iterator)
        exc = raised(openai.RateLimitError, lambda: narrow.chat.completions.create(**CHAT))
        assert exc.code == "rate_limit_exceeded"
        assert int(exc.response.headers["retry-after"]) >= 1
        patient = narrow.with_options(max_retries=60)
        retried = pool.submit(lambda: patient.chat.completions.create(**CHAT))
        num_chunks = sum(1 for _ in iterator)
        assert num_chunks > 50
        assert retried.result().choices[0].message.content


@check
def rate_limit_headers_are_on_replies():
    raw = CLIENT.chat.completions.with_raw_response.create(**CHAT)
    assert raw.headers["x-request-id"]
    assert raw.parse().choices


@check
def leaving_a_stream_frees_its_place():
    narrow: Any = openai.OpenAI(base_url=BASE, api_key=TARGET.narrow_key, max_retries=5, timeout=60)
    endless = {**CHAT, "max_completion_tokens": 2000}
    with narrow.chat.completions.create(
        **endless, extra_body={"ignore_eos": True}, stream=True
    ) as stream:
        next(iter(stream))
    assert narrow.chat.completions.create(**CHAT).choices


main()
