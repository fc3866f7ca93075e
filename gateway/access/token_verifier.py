"""JSON web tokens of an OIDC provider to callers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from gateway.access.jwks import Jwks
from gateway.settings import GatewaySettings
from services.core.caller import Caller, Scope
from services.core.errors import PermissionDenied, Unauthenticated

LEEWAY_S = 30
MAX_TOKEN_CHARS = 16_384
MAX_REMEMBERED = 4096
# Only keys that the provider publishes: no shared secrets, and never "none".
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
_SCOPE_PREFIX = "tokenmill:"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which tokens count, and what their claims mean.

    Attributes:
        audience: the token must name it; empty: any.
        tenant_claim: names the tenant.
        scopes_claim: scopes as one text or a list, `inference` or `tokenmill:inference`.
    """

    issuer: str
    audience: str = ""
    tenant_claim: str = "tenant"
    scopes_claim: str = "scope"


def caller_of_claims(claims: dict[str, Any], rules: TokenRules) -> Caller:
    """What verified claims say of their bearer.

    Raises:
        PermissionDenied: they name no tenant.
    """
    tenant = claims.get(rules.tenant_claim)
    if not isinstance(tenant, str) or not tenant:
        raise PermissionDenied(
            f"the token names no tenant in its claim {rules.tenant_claim}", reason="NO_TENANT"
        )
    raw = claims.get(rules.scopes_claim, "")
    named = raw.split() if isinstance(raw, str) else raw if isinstance(raw, list) else ()
    plain = {str(one).removeprefix(_SCOPE_PREFIX) for one in named}
    subject = str(claims.get("sub", ""))
    return Caller(
        tenant=tenant,
        key_id=f"sub-{subject}",
        name=subject,
        scopes=frozenset(scope for scope in Scope if scope.value in plain),
    )


class TokenVerifier:
    """Checks signature, issuer, audience and times; remembers what it has checked until it ends."""

    def __init__(self, jwks: Jwks, rules: TokenRules) -> None:
        self._jwks = jwks
        self._rules = rules
        wanted: dict[str, jwt.ClaimsOption] = {
            "iss": {"essential": True, "value": rules.issuer},
            "exp": {"essential": True},
        }
        if rules.audience:
            wanted["aud"] = {"essential": True, "value": rules.audience}
        self._claims = jwt.JWTClaimsRegistry(None, LEEWAY_S, **wanted)
        self._remembered: dict[str, tuple[float, Caller]] = {}

    async def caller(self, token: str) -> Caller:
        """Who brings this token.

        Raises:
            Unauthenticated: it is not valid.
            PermissionDenied: it names no tenant.
            DependencyLost: the provider's keys cannot be read.
        """
        found = self._remembered.get(token)
        if found is not None and found[0] > time.time():
            return found[1]
        claims = await self._verified(token)
        caller = caller_of_claims(claims, self._rules)
        while len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        # Not longer than the keys themselves: a key that was withdrawn must stop working.
        until_s = min(float(claims["exp"]), time.time() + 60.0)
        self._remembered[token] = (until_s, caller)
        return caller

    async def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthenticated("the token is too long", reason="INVALID_TOKEN")
        try:
            header = jws.extract_compact(token.encode()).protected
            key_id = header.get("kid")
            keys = await self._jwks.keys(str(key_id) if key_id is not None else None)
            decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
            self._claims.validate(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError) as exc:
            raise Unauthenticated(
                f"the token is not valid: {type(exc).__name__}", reason="INVALID_TOKEN"
            ) from exc
        return decoded.claims


def verifier_of(settings: GatewaySettings) -> TokenVerifier | None:
    """As the settings say; None: no tokens are taken."""
    if not settings.jwt_issuer:
        return None
    rules = TokenRules(
        settings.jwt_issuer,
        settings.jwt_audience,
        settings.jwt_tenant_claim,
        settings.jwt_scopes_claim,
    )
    return TokenVerifier(Jwks(settings.jwt_issuer, settings.jwt_jwks_url), rules)
