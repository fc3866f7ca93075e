import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from gateway.access import jwks as jwks_module
from gateway.access.jwks import Jwks
from gateway.access.token_verifier import TokenRules, TokenVerifier
from services.core.caller import Scope
from services.core.errors import DependencyLost, PermissionDenied, Unauthenticated


class Provider:
    """An identity provider: discovery and keys over real HTTP."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.num_fetches = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    body: Any = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys"}
                else:
                    provider.num_fetches += 1
                    body = KeySet([provider.key]).as_dict(private=False)
                payload = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, **changes: Any) -> str:
        claims = {
            "iss": self.issuer,
            "aud": "tokenmill",
            "sub": "anna",
            "tenant": "acme",
            "scope": "openid tokenmill:inference",
            "exp": int(time.time()) + 600,
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def verifier(provider: Provider) -> TokenVerifier:
    rules = TokenRules(provider.issuer, audience="tokenmill")
    return TokenVerifier(Jwks(provider.issuer), rules)


async def test_claims_say_who_calls_and_keys_are_fetched_once(
    provider: Provider, verifier: TokenVerifier
):
    for name in ("anna", "bert"):
        caller = await verifier.caller(provider.token(sub=name))
        assert (caller.tenant, caller.name, caller.key_id) == ("acme", name, f"sub-{name}")
        assert caller.scopes == {Scope.INFERENCE}
    assert provider.num_fetches == 1


async def test_a_rotated_key_is_fetched_when_a_token_names_it(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jwks_module, "MIN_REFETCH_S", 0.0)
    await verifier.caller(provider.token())
    provider.key = RSAKey.generate_key(2048, {"kid": "two"})
    assert await verifier.caller(provider.token())
    assert provider.num_fetches == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere"},
        {"aud": "other"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"nbf": 2**31},
    ],
)
async def test_a_token_for_another_place_or_time_is_refused(
    provider: Provider, verifier: TokenVerifier, changes: dict[str, Any]
):
    with pytest.raises(Unauthenticated):
        await verifier.caller(provider.token(**changes))


async def test_a_token_signed_otherwise_is_refused(provider: Provider, verifier: TokenVerifier):
    good = provider.token()
    claims = {"iss": provider.issuer, "aud": "tokenmill", "tenant": "acme", "exp": 2**31}
    public = provider.key.as_pem(private=False)
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    forged = [
        jwt.encode({"alg": "RS256", "kid": "one"}, claims, stranger),
        # The public key as a shared secret: the classic confusion.
        jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(public.hex())),
        good[:-4] + "AAAA",
        "a.b.c",
        "",
        "x" * 20_000,
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            await verifier.caller(token)


async def test_a_token_without_a_tenant_may_do_nothing(provider: Provider, verifier: TokenVerifier):
    with pytest.raises(PermissionDenied):
        await verifier.caller(provider.token(tenant=None))


async def test_a_provider_that_never_answered_is_a_dependency_lost():
    verifier = TokenVerifier(Jwks("http://127.0.0.1:1"), TokenRules("http://127.0.0.1:1"))
    token = jwt.encode({"alg": "RS256", "kid": "a"}, {"exp": 1}, RSAKey.generate_key(2048))
    with pytest.raises(DependencyLost):
        await verifier.caller(token)
