"""The `anthropic` package against a cluster: `make client-anthropic`."""

# pyright: reportMissingImports=false
from __future__ import annotations

import anthropic
from checks import check, main, raised, target

TARGET = target()
CLIENT = anthropic.Anthropic(base_url=TARGET.url, api_key=TARGET.key, max_retries=0, timeout=60)
HI = [{"role": "user", "content": "Name three colours."}]
ASKED = {"model": TARGET.model, "messages": HI, "max_tokens": 12}
# The package has no name for it any more; the route still takes it.
GREEDY = {"temperature": 0}


def create(**more):
    return CLIENT.messages.create(**{**ASKED, **more}, extra_body=GREEDY)


@check
def a_message_is_whole():
    message = create(system="Be short.")
    assert message.role == "assistant"
    assert message.type == "message"
    assert message.content[0].text
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.output_tokens > 0
    assert message._request_id


@check
def a_stream_of_events_says_the_same():
    kinds = [event.type for event in create(stream=True)]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    with CLIENT.messages.stream(**ASKED, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == create().content[0].text
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 0
    assert final.usage.output_tokens > 0


@check
async def the_async_client_answers_and_streams():
    async with anthropic.AsyncAnthropic(base_url=TARGET.url, api_key=TARGET.key) as client:
        message = await client.messages.create(**ASKED, extra_body=GREEDY)
        async with client.messages.stream(**ASKED, extra_body=GREEDY) as stream:
            text = "".join([piece async for piece in stream.text_stream])
    assert text == message.content[0].text


@check
def tokens_are_counted_as_the_message_counts_them():
    counted = CLIENT.messages.count_tokens(model=TARGET.model, messages=HI)
    usage = create().usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@check
def a_stop_sequence_is_named():
    word = create().content[0].text.split()[1]
    message = create(stop_sequences=[word])
    assert message.stop_reason == "stop_sequence"
    assert message.stop_sequence == word


@check
def blocks_and_turns_are_taken():
    blocks = [{"type": "text", "text": "Name three "}, {"type": "text", "text": "colours."}]
    assert create(messages=[{"role": "user", "content": blocks}]).content == create().content
    history = [*HI, {"role": "assistant", "content": create().content}, *HI]
    assert create(messages=history).content[0].text


@check
def models_are_listed_as_the_client_reads_them():
    assert [model.id for model in CLIENT.models.list()] == [TARGET.model]
    assert CLIENT.models.retrieve(TARGET.model).id == TARGET.model


@check
def errors_are_the_classes_that_users_catch():
    wrong = CLIENT.with_options(api_key="tm-wrong")
    for kind, said, work in (
        (
            anthropic.AuthenticationError,
            "authentication_error",
            lambda: wrong.messages.create(**ASKED),
        ),
        (anthropic.NotFoundError, "not_found_error", lambda: create(model="none")),
        (anthropic.BadRequestError, "invalid_request_error", lambda: create(stop_sequences=[""])),
        (anthropic.BadRequestError, "invalid_request_error", with_tools),
        (anthropic.BadRequestError, "invalid_request_error", prefilled),
    ):
        exc = raised(kind, work)
        assert exc.body["type"] == "error"
        assert exc.body["error"]["type"] == said
        assert exc.request_id


def with_tools():
    create(tools=[{"name": "look", "input_schema": {"type": "object"}}])


def prefilled():
    create(messages=[*HI, {"role": "assistant", "content": "Red,"}])


main()
