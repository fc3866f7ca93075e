"""Kept answers on a real cluster: any door, either gateway, one tenant."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tokenmill.kserve import open_inference_pb2 as pb
from tokenmill.kserve.open_inference_pb2_grpc import GRPCInferenceServiceStub

from tests.support.cluster import LocalCluster, running_cluster, tokenmill
from tokenmill_client import AsyncClient, Client, SamplingParams

pytestmark = [pytest.mark.flow, pytest.mark.model]

ON = {"x-result-cache": "on"}
GREEDY = {"max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalCluster]:
    with running_cluster(
        tmp_path_factory.mktemp("kept"), "--engine", "fake", "--gateways", "2", "--auth"
    ) as running:
        yield running


def key_of(cluster: LocalCluster, tenant: str) -> str:
    told = tokenmill(
        "keys",
        "create",
        "--name",
        tenant,
        "--tenant",
        tenant,
        "--json",
        state_dir=cluster.state_dir,
    )
    return json.loads(told)["api_key"]


@pytest.fixture(scope="module")
def key(cluster: LocalCluster) -> str:
    return key_of(cluster, "acme")


def ask(url: str, key: str, path: str, **body: Any) -> tuple[str, str]:
    """What the header says of the cache, and the answer's text."""
    reply = httpx.post(
        f"{url}{path}", headers={**ON, "authorization": f"Bearer {key}"}, json=body, timeout=60
    )
    assert reply.status_code == 200, reply.text
    return reply.headers["x-result-cache"], text_of(reply.text)


def text_of(reply: str) -> str:
    """All texts of a reply of any route, streamed or whole."""
    lines = [line.removeprefix("data: ") for line in reply.splitlines() if line[:1] in "d{"]
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                collect(each)
        elif isinstance(value, dict):
            for name, each in value.items():
                if name in ("text", "content") and isinstance(each, str):
                    texts.append(each)
                else:
                    collect(each)

    for line in lines:
        if line.startswith("{"):
            collect(json.loads(line))
    return "".join(texts)


MESSAGES = [{"role": "user", "content": "Name a colour."}]
ROUTES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda mark: {"messages": MESSAGES, "stop": [mark], **GREEDY},
    "/v1/messages": lambda mark: {
        "model": "",
        "messages": MESSAGES,
        "stop_sequences": [mark],
        **GREEDY,
    },
    "/v1/completions": lambda mark: {"prompt": "One, two,", "stop": [mark], **GREEDY},
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_what_one_gateway_answered_the_other_gives_again(
    cluster: LocalCluster, key: str, path: str, stream: bool
):
    one, other = cluster.http_urls()
    body = {**ROUTES[path](f"~{path}{stream}~"), "model": cluster.model}
    first = ask(one, key, path, stream=stream, **body)
    again = ask(other, key, path, stream=stream, **body)
    otherwise = ask(one, key, path, stream=not stream, **body)
    assert (first[0], again[0], otherwise[0]) == ("miss", "hit", "hit")
    assert first[1]
    assert first[1] == again[1] == otherwise[1]


def test_another_tenant_computes_it_itself(cluster: LocalCluster, key: str):
    stranger = key_of(cluster, "other")
    one, other = cluster.http_urls()
    body = {"prompt": "Tenants apart.", "seed": 7, "max_tokens": 4}
    assert ask(one, key, "/v1/completions", **body)[0] == "miss"
    assert ask(other, stranger, "/v1/completions", **body)[0] == "miss"
    assert ask(other, key, "/v1/completions", **body)[0] == "hit"


def test_the_open_inference_door_gives_kept_answers(cluster: LocalCluster, key: str):
    told: list[bool] = []
    for entry in cluster.processes("gateway"):
        request = pb.ModelInferRequest(model_name=cluster.model)
        text = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        text.contents.bytes_contents.append(b"Kept by KServe's protocol.")
        request.parameters["temperature"].double_param = 0
        request.parameters["max_tokens"].int64_param = 4
        with grpc.insecure_channel(f"127.0.0.1:{entry['grpc_port']}") as channel:
            response = GRPCInferenceServiceStub(channel).ModelInfer(
                request,
                timeout=60,
                metadata=(("authorization", f"Bearer {key}"), *ON.items()),
            )
        told.append(response.parameters["result_cached"].bool_param)
    assert told == [False, True]


async def test_the_client_library_asks_for_kept_answers(cluster: LocalCluster, key: str):
    one, other = (f"127.0.0.1:{entry['grpc_port']}" for entry in cluster.processes("gateway"))
    sampling = SamplingParams(max_tokens=4, temperature=0)
    with Client(one, api_key=key) as client:
        first = client.generate("By the library.", sampling=sampling, result_cache=True)
        unasked = client.generate("By the library.", sampling=sampling)
    async with AsyncClient(other, api_key=key) as client:
        again = await client.generate("By the library.", sampling=sampling, result_cache=True)
    assert [each.usage.is_result_cached for each in (first, unasked, again)] == [False, False, True]
    assert first.text == unasked.text == again.text
