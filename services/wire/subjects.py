"""Every NATS subject, stream and bucket, in one list."""

from __future__ import annotations

from services.core.request import RequestClass

REQUESTS_STREAM = "TOKENMILL_REQUESTS"
REQUESTS_WILDCARD = "tokenmill.requests.>"

RESUME_BAND = "resume"
"""Band of attempts after the first: it goes before every class."""

BANDS = (RESUME_BAND, *(cls.value for cls in RequestClass))
"""All bands of a model's queue, the most urgent first."""

HEARTBEATS_WILDCARD = "tokenmill.heartbeats.>"
CANCELS = "tokenmill.cancels"

SESSIONS_BUCKET = "tokenmill_sessions"

MESSAGE_ID_HEADER = "Nats-Msg-Id"


def requests_subject(model: str, lane: str) -> str:
    """Where an attempt waits."""
    return f"tokenmill.requests.{token(model)}.{lane}"


def requests_consumer(model: str, lane: str) -> str:
    """Durable consumer that all schedulers of a model share, per lane."""
    return f"scheduler-{token(model)}-{lane}"


def heartbeat_subject(model: str, worker_id: str) -> str:
    """Where a worker announces itself."""
    return f"tokenmill.heartbeats.{token(model)}.{token(worker_id)}"


def heartbeats_of(model: str) -> str:
    """All workers of a model, as a subscription."""
    return f"tokenmill.heartbeats.{token(model)}.*"


def band_of(request_class: RequestClass, attempt: int) -> str:
    """A later attempt goes ahead of new work: its client has been waiting longest."""
    return RESUME_BAND if attempt > 1 else request_class.value


def message_id(request_id: str, attempt: int) -> str:
    """JetStream drops a second publish of the same attempt."""
    return f"{request_id}.{attempt}"


def token(name: str) -> str:
    """A name as one subject token: letters, digits, - and _ stay, the rest becomes =XX per byte."""
    return "".join(
        chr(byte)
        if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-_")
        else f"={byte:02X}"
        for byte in name.encode()
    )
