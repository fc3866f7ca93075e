import httpx
import pytest

from gateway.settings import GatewaySettings
from tests.gateway.conftest import Served


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(
        http_port=0,
        grpc_port=0,
        auth="required",
        cors_origins="https://a.example, https://b.example",
    )


@pytest.mark.parametrize(
    ("origin", "is_let_in"), [("https://b.example", True), ("https://c.example", False)]
)
async def test_pages_of_listed_origins_alone_may_call(
    working: Served, client: httpx.AsyncClient, origin: str, is_let_in: bool
):
    asked = {"origin": origin, "access-control-request-method": "POST"}
    preflight = await client.options("/v1/chat/completions", headers=asked)
    assert ("access-control-allow-origin" in preflight.headers) is is_let_in
    key = working.cluster.access.add_key()
    reply = await client.get(
        "/v1/models", headers={"origin": origin, "authorization": f"Bearer {key}"}
    )
    assert reply.status_code == 200
    assert ("access-control-allow-origin" in reply.headers) is is_let_in
