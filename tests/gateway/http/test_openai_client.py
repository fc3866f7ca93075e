import openai
import pytest

from services.core.errors import Overloaded
from services.core.request import FinishReason, QueuedRequest
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL, fake_worker

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def client(served: Served):
    async with openai.AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=10
    ) as client:
        yield client


async def test_chat(working: Served, client):
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3)
    assert reply.choices[0].message.content == "abc"
    assert reply.usage.total_tokens == 5
    assert reply.usage.prompt_tokens_details.cached_tokens == 0
    assert reply._request_id.startswith("req-")


async def test_chat_stream(working: Served, client):
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "abc"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 3


async def test_an_answer_can_be_sent_back_as_history(working: Served, client):
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    history = [*MESSAGES, reply.choices[0].message.model_dump(), *MESSAGES]
    again = await client.chat.completions.create(model=MODEL, messages=history, max_tokens=1)
    assert again.choices[0].message.content == "a"


async def test_completion_and_its_stream(working: Served, client):
    reply = await client.completions.create(model=MODEL, prompt="a", max_tokens=2)
    assert reply.choices[0].text == "ab"
    stream = await client.completions.create(model=MODEL, prompt="a", max_tokens=2, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "ab"


def by_prompt(request: QueuedRequest) -> list[list[int]]:
    """Says the prompt again."""
    return [[token_id] for token_id in request.prompt_token_ids]


@pytest.mark.parametrize("prompts", [["ab", "xyz"], [[0, 1], [23, 24, 25]]])
async def test_several_prompts_are_answered_in_order(working: Served, client, prompts):
    working.cluster.script = by_prompt
    asked = {"model": MODEL, "prompt": prompts, "n": 2, "echo": True, "seed": 5}
    reply = await client.completions.create(**asked)
    assert [choice.text for choice in reply.choices] == ["abab", "abab", "xyzxyz", "xyzxyz"]
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 10)
    texts = [""] * 4
    async for chunk in await client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == ["abab", "abab", "xyzxyz", "xyzxyz"]


def by_prompt_seed(request: QueuedRequest) -> list[list[int]]:
    """Choices differ: the first says abc, the others xyz."""
    first = 0 if request.sampling.seed == 5 else 23
    return [[first + position] for position in range(3)]


@pytest.mark.parametrize("api", ["chat", "text"])
async def test_n_choices_in_one_reply(working: Served, client, api: str):
    working.cluster.script = by_prompt_seed
    if api == "chat":
        reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=3, seed=5)
        texts = [choice.message.content for choice in reply.choices]
    else:
        reply = await client.completions.create(model=MODEL, prompt="ab", n=3, seed=5)
        texts = [choice.text for choice in reply.choices]
    assert texts == ["abc", "xyz", "xyz"]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage.prompt_tokens == 2
    assert reply.usage.completion_tokens == 9


async def test_n_choices_in_one_stream(working: Served, client):
    working.cluster.script = by_prompt_seed
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        n=2,
        seed=5,
        stop=["z"],
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, reasons = ["", ""], [None, None]
    *chunks, last = [chunk async for chunk in stream]
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == ["abc", "xy"]
    assert reasons == ["length", "stop"]
    assert last.choices == []
    assert last.usage.completion_tokens == 6


async def test_chat_logprobs(working: Served, client):
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 3, "logprobs": True}
    reply = await client.chat.completions.create(**asked, top_logprobs=2)
    content = reply.choices[0].logprobs.content
    assert "".join(entry.token for entry in content) == "abc"
    assert [bytes(entry.bytes) for entry in content] == [b"a", b"b", b"c"]
    assert [entry.logprob for entry in content] == [-1.0] * 3
    assert [(top.token, top.logprob) for top in content[1].top_logprobs] == [("b", -1), ("a", -2)]
    stream = await client.chat.completions.create(**asked, stream=True)
    streamed = [
        entry
        async for chunk in stream
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert [entry.token for entry in streamed] == ["a", "b", "c"]
    assert all(entry.top_logprobs == [] for entry in streamed)


async def test_the_token_that_ends_an_answer_is_no_content(working: Served, client):
    working.cluster.script = lambda _: [[0], [27]]
    working.cluster.finish = FinishReason.STOP
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=True)
    assert [entry.token for entry in reply.choices[0].logprobs.content] == ["a", "."]


async def test_completion_logprobs_with_echo(working: Served, client):
    asked = {"model": MODEL, "prompt": "xy", "max_tokens": 2, "logprobs": 1}
    plain = (await client.completions.create(**asked)).choices[0]
    assert plain.text == "ab"
    assert plain.logprobs.tokens == ["a", "b"]
    assert plain.logprobs.text_offset == [0, 1]
    echoed = (await client.completions.create(**asked, echo=True)).choices[0]
    assert echoed.text == "xyab"
    assert echoed.logprobs.tokens == ["x", "y", "a", "b"]
    assert echoed.logprobs.token_logprobs == [None, -1.0, -1.0, -1.0]
    assert echoed.logprobs.top_logprobs == [None, {"y": -1.0}, {"a": -1.0}, {"b": -1.0}]
    assert echoed.logprobs.text_offset == [0, 1, 2, 3]
    stream = await client.completions.create(**asked, echo=True, stream=True)
    chunks = [chunk.choices[0] async for chunk in stream]
    assert "".join(choice.text for choice in chunks) == "xyab"
    told = [choice.logprobs for choice in chunks if choice.logprobs]
    assert [offset for entry in told for offset in entry.text_offset] == [0, 1, 2, 3]


async def test_what_steers_reaches_the_worker(served: Served, client):
    import asyncio

    fields = {"presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {"3": -100}}
    extra = {"repetition_penalty": 1.2, "allowed_token_ids": [1, 3], "min_tokens": 2}
    asked = asyncio.ensure_future(
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, **fields, extra_body=extra | {"ignore_eos": True}
        )
    )
    sampling = (await served.cluster.queue.next_attempt()).sampling
    asked.cancel()
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sampling.repetition_penalty, sampling.min_tokens) == (1.2, 2)
    assert sampling.logit_bias == ((3, -100.0),)
    assert sampling.allowed_token_ids == (1, 3)
    assert sampling.ignore_eos


async def test_models(served: Served, client):
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).owned_by == "tokenmill"


async def test_errors_are_the_classes_that_users_catch(served: Served, client):
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="x", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=-1)
    assert bad.value.param == "temperature"
    served.cluster.queue.error = Overloaded("full", reason="QUEUE_FULL")
    with pytest.raises(openai.InternalServerError) as full:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert full.value.status_code == 503
    assert int(full.value.response.headers["retry-after"]) >= 1


async def test_an_error_in_the_stream_is_raised(served: Served, client):
    import asyncio

    asked = asyncio.ensure_future(
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    )
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [0])
        stream = await asked
        await worker.deliver(1, 1, [], FinishReason.ERROR, error_message="out of memory")
        with pytest.raises(openai.APIError, match="out of memory"):
            async for _ in stream:
                pass
