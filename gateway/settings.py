"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.core.access_policy import AuthMode, asks_for_keys
from services.core.errors import InvalidRequest
from services.runtime.settings import QueueSettings
from services.runtime.tls import Certificates, TlsFiles


class GatewaySettings(QueueSettings):
    """Read from the environment: field `http_port` is TOKENMILL_HTTP_PORT, and so on."""

    grpc_port: int = Field(default=50051, ge=0, le=65535)
    """Port of the gRPC server, for callers and workers; 0 takes a free one."""

    http_port: int = Field(default=8080, ge=0, le=65535)
    """Port of the HTTP server; 0 takes a free one."""

    auth: AuthMode = AuthMode.AUTO
    """auto and open ask for no key, and serve on loopback only; required asks everybody for one."""

    jwt_issuer: str = ""
    """OIDC issuer whose tokens are taken beside API keys; unset: none are."""

    jwt_jwks_url: str = ""
    """Where the issuer's public keys are; unset: as its discovery document says."""

    jwt_audience: str = ""
    """Audience that a token must name; unset: any."""

    jwt_tenant_claim: str = "tenant"
    """Claim that names the tenant."""

    jwt_scopes_claim: str = "scope"
    """Claim with the scopes: inference, sessions, admin, alone or after `tokenmill:`."""

    tls_cert_file: Path | None = None
    """Certificate chain in PEM, for both doors; read again when the file changes. Unset: no TLS."""

    tls_key_file: Path | None = None
    """Its private key in PEM."""

    tls_client_ca_file: Path | None = None
    """With it, callers must bring a certificate that it has signed, at both doors."""

    delivery_port: int = Field(default=0, ge=0, le=65535)
    """With TLS: gRPC port without, for workers alone; 0 takes a free one. Not for the public."""

    cors_origins: str = ""
    """Web origins that browsers may call from, separated by commas; `*` for all. Unset: none."""

    advertise_address: str = ""
    """Address (host:port) that workers dial to deliver. Unset: the bound one; if that is every
    interface, this machine's own address."""

    tokenizer_target: str = "127.0.0.1:50052"
    """gRPC target of the tokenizer service; dns:///name:port spreads over its replicas."""

    tokenizer_timeout_s: float = Field(default=10.0, gt=0)
    """Most that one tokenization may take, seconds; a 128k-token prompt takes well under one."""

    traces_url: str = ""
    """HTTP address of the embedded trace store, for explanations; empty: there is none."""

    traces_slow_s: float = Field(default=10.0, gt=0)
    """A request that took so long, seconds, is traced whatever the sampler said, as is a failed
    one."""

    request_timeout_s: float = Field(default=300.0, gt=0)
    """Longest life of a request, queue included, seconds; callers may ask for less, not more."""

    default_max_tokens: int | None = Field(default=None, ge=1)
    """Length of an answer whose caller names none; unset: up to the context window."""

    max_body_bytes: int = Field(default=8 << 20, ge=1024)
    """Largest HTTP body. A prompt of a million tokens is about half of the default."""

    max_live_requests: int = Field(default=4096, ge=1)
    """Requests owned at once, queued and running; more are refused with 503."""

    max_worker_messages: int = Field(default=8192, ge=16)
    """Messages that may wait for one worker; a worker that reads slower is dropped."""

    max_untaken_tokens: int = Field(default=512, ge=1)
    """Tokens of one answer that may wait for its client, beside what the socket holds; beyond them
    its sequence stops until the client has read."""

    session_ttl_s: float = Field(default=86_400.0, ge=1)
    """A chat session is forgotten this long after its last turn, seconds."""

    max_session_bytes: int = Field(default=512 << 10, ge=1024)
    """Longest stored conversation; half of what one broker message holds."""

    result_cache_bytes: int = Field(default=64 << 20, ge=0)
    """Kept results of all gateways together, in the broker; the oldest make room. 0: none is kept,
    and every request passes the result cache by."""

    result_cache_ttl_s: float = Field(default=3600.0, ge=1)
    """A kept result is forgotten after this long, seconds."""

    @property
    def traces_slow_after_s(self) -> float | None:
        """Gateways judge: they see how requests end."""
        return self.traces_slow_s

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers need a key."""
        return asks_for_keys(self.auth, self.host)

    def check(self) -> None:
        """Refuses an open address that others reach, and TLS files that do not belong together."""
        asks_for_keys(self.auth, self.host)
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise InvalidRequest(
                "TOKENMILL_TLS_CERT_FILE and TOKENMILL_TLS_KEY_FILE belong together: set both",
                field="TOKENMILL_TLS_CERT_FILE",
            )
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise InvalidRequest(
                "TOKENMILL_TLS_CLIENT_CA_FILE needs TOKENMILL_TLS_CERT_FILE",
                field="TOKENMILL_TLS_CLIENT_CA_FILE",
            )
        self.tls_certificates()

    def tls_certificates(self) -> Certificates | None:
        """Certificates of both doors; None without TLS.

        Raises:
            InvalidRequest: they cannot be used.
        """
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return Certificates(
            TlsFiles(self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file)
        )
