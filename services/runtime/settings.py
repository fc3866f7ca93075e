"""Settings that every process has. Each process adds its own in its settings.py."""

from __future__ import annotations

import secrets
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.core.errors import InvalidRequest
from services.runtime.bus import QueueLimits


class ProcessSettings(BaseSettings):
    """Read from the environment: field `nats_url` is TOKENMILL_NATS_URL, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="TOKENMILL_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on. Loopback, so that nothing is public by accident."""

    grpc_port: int = Field(default=0, ge=0, le=65535)
    """Port of the gRPC server; 0 takes a free one."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the Prometheus endpoint; unset: none (the gateway also answers on its HTTP port)."""

    nats_url: str = "nats://127.0.0.1:4222"
    """The broker; several servers of a cluster are separated by commas."""

    queue_num_replicas: int = Field(default=1, ge=1, le=5)
    """Copies of what the broker keeps (queue, sessions, secret of block names); 3 on a 3-node
    cluster. Equal in all processes."""

    instance_id: str = Field(default_factory=lambda: secrets.token_hex(4))
    """Name of this replica in logs and traces; drawn if unset."""

    metrics_max_tenants: int = Field(default=50, ge=0)
    """Tenants that have series of their own in metrics; later ones share one. Bounds what
    Prometheus must keep."""

    log_level: str = "info"
    """debug, info, warning or error."""

    traces_max_held_spans: int = Field(default=20_000, ge=0)
    """Spans that wait here for a word that their request is to be kept; some 20 MB."""

    drain_timeout_s: float = Field(default=30.0, ge=0)
    """How long running work may take after SIGTERM before it is cut off, seconds."""

    @property
    def traces_slow_after_s(self) -> float | None:
        """Seconds after which a request's trace is kept; None: not for this process to say."""
        return None

    def check(self) -> None:
        """Refuses values that are right alone and wrong together.

        Raises:
            InvalidRequest: says which, and what to do.
        """


class QueueSettings(ProcessSettings):
    """Of the processes that create the request stream; equal in all of them: the last one wins."""

    queue_max_messages: int = Field(default=10_000, ge=1)
    """Requests that may wait in the queue; more are refused with 503."""

    queue_max_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Bytes that may wait in the queue."""

    def queue_limits(self) -> QueueLimits:
        """Bounds of the request stream."""
        return QueueLimits(self.queue_max_messages, self.queue_max_bytes, self.queue_num_replicas)


S = TypeVar("S", bound=ProcessSettings)


def read_settings(kind: type[S]) -> S:
    """Reads and checks the settings of a process.

    Raises:
        InvalidRequest: names the variable, its value and what is allowed.
    """
    try:
        settings = kind()
    except ValidationError as exc:
        first = exc.errors()[0]
        name = "TOKENMILL_" + "_".join(str(part).upper() for part in first["loc"])
        raise InvalidRequest(
            f"{name} is {first.get('input')!r}: {first['msg']}", field=name
        ) from exc
    settings.check()
    return settings
