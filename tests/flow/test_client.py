"""The client library against real processes."""

from contextlib import aclosing

import pytest

from tests.support.cluster import LocalCluster, wait_until
from tokenmill_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FinishReason,
    InvalidRequest,
    SamplingParams,
)

pytestmark = [pytest.mark.flow, pytest.mark.model]

GREEDY = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)


def test_client_answers_streams_and_remembers(real_cluster: LocalCluster):
    with Client(real_cluster.grpc_target, timeout_s=60) as client:
        assert [model.name for model in client.models()] == [real_cluster.model]
        whole = client.chat("Name three colours.", sampling=GREEDY)
        parts = list(client.stream_chat("Name three colours.", sampling=GREEDY))
        session = client.session()
        first = session.ask("My name is Ada.", sampling=GREEDY)
        second = session.ask("What is my name?", sampling=GREEDY)
    assert "".join(part.text for part in parts) == whole.text
    assert whole.usage.completion_tokens == 8
    assert whole.finish_reason is FinishReason.LENGTH
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + 8


def test_client_names_the_bad_field_and_keeps_to_its_deadline(real_cluster: LocalCluster):
    with Client(real_cluster.grpc_target, timeout_s=60) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.generate("a", sampling=SamplingParams(temperature=-1))
        assert caught.value.field == "temperature"
        with pytest.raises(DeadlineExceeded):
            client.generate(
                "One,", sampling=SamplingParams(max_tokens=4000, ignore_eos=True), timeout_s=0.5
            )


async def test_leaving_a_stream_stops_the_request(real_cluster: LocalCluster):
    endless = SamplingParams(max_tokens=4000, ignore_eos=True)
    async with AsyncClient(real_cluster.grpc_target, timeout_s=60) as client:
        async with aclosing(client.stream_generate("One, two,", sampling=endless)) as parts:
            request_id = (await anext(parts)).request_id
        wait_until(
            lambda: any(
                line["event"] == "request.failed" and line.get("request_id") == request_id
                for entry in real_cluster.processes("gateway")
                for line in real_cluster.logs(entry["name"])
            ),
            10,
            "the gateway has let go of the request",
        )
