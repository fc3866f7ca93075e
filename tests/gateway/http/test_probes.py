from tests.gateway.conftest import Served


async def test_a_ready_gateway_says_so(served: Served, client):
    reply = await client.get("/readyz")
    assert (reply.status_code, reply.json()) == (200, {"ready": True, "reasons": []})


async def test_a_gateway_that_is_not_ready_says_why(served: Served, client):
    served.gateway.readiness.has_queue = False
    reply = await client.get("/readyz")
    assert reply.status_code == 503
    assert reply.json()["reasons"] == ["the request queue is not set up"]
    assert (await client.get("/livez")).status_code == 200


async def test_metrics_count_answers_by_model(working: Served, client):
    await client.post("/v1/completions", json={"prompt": "a", "max_tokens": 3})
    text = (await client.get("/metrics")).text
    labels = (
        'gen_ai_operation_name="text_completion",gen_ai_provider_name="tokenmill"'
        ',gen_ai_request_model="fake-model"'
    )
    assert f"gen_ai_server_time_to_first_token_seconds_count{{{labels}}}" in text
    assert 'http_route="/v1/completions"' in text
