"""How a client reaches gateways: TLS, load balancing, key, errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_status import rpc_status

from services.core.errors import TokenmillError
from services.wire.errors import from_rpc_error

# A gateway that drains says so through the standard health service and gets no new calls.
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "tokenmill.v1.InferenceService"},
    }
)
MAX_MESSAGE_BYTES = 64 << 20

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A gateway that was cut off without a word is noticed while an answer is awaited.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the gateway.

    Attributes:
        ca_file: PEM of who signs the gateway's certificate; None: those that the system trusts.
        cert_file: PEM of our own certificate, where the gateway asks for one.
        key_file: PEM of its private key.
    """

    ca_file: Path | str | None = None
    cert_file: Path | str | None = None
    key_file: Path | str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC takes them.

        Raises:
            OSError: a file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            _read(self.ca_file), _read(self.key_file), _read(self.cert_file)
        )


def key_metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """Metadata that shows a key; none without one."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


def core_error(error: Any) -> TokenmillError:
    """The error that a failed call stands for."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None
    return from_rpc_error(error.code(), error.details() or "", status, peer="gateway")


def _read(path: Path | str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
