"""Every NATS subject, stream and bucket, in one list."""

from __future__ import annotations

import zlib

from services.core.request import RequestClass

REQUESTS_STREAM = "TOKENMILL_REQUESTS"
REQUESTS_WILDCARD = "tokenmill.requests.>"

RESUME_BAND = "resume"
"""Band of attempts after the first: it goes before every class."""

BANDS = (RESUME_BAND, *(cls.value for cls in RequestClass))
"""All bands of a model's queue, the most urgent first."""

NUM_LANES = 4096
"""Lanes of a class. A lane is first in, first out, so tenants that share one hide each other: with
so many, eight tenants share none in 99 of 100 cases. Only lanes in use cost anything."""

DEAD_LETTERS_STREAM = "TOKENMILL_DEAD_LETTERS"
DEAD_LETTERS_WILDCARD = "tokenmill.dead_letters.>"
QUEUE_STATUS_WILDCARD = "tokenmill.queue_status.*"
HEARTBEATS_WILDCARD = "tokenmill.heartbeats.>"
CANCELS = "tokenmill.cancels"
REFUSALS = "tokenmill.refusals"
"""Requests that a scheduler gave up because no worker could begin them in time."""
TRACES_KEEP = "tokenmill.traces.keep"
"""Trace ids, a JSON list: every process exports what it holds of them."""
TRACES_EXPORT = "tokenmill.traces.export"
"""Somebody waits for a trace: every process exports what it has to export now, and soon again."""
TRACES_HELD = "tokenmill.traces.held"
"""Asks gateways for a request id, or for all: they answer with [ns, trace id] of what they hold."""

SESSIONS_BUCKET = "tokenmill_sessions"
ACCESS_BUCKET = "tokenmill_access"
"""API keys and limits of tenants."""
RESPONSES_BUCKET = "tokenmill_responses"
RESULTS_BUCKET = "tokenmill_results"
"""Answers that would come out the same again."""
QUOTA_BUCKET = "tokenmill_quota"
"""What keys and tenants used in the last minute, and what gateways hold in advance."""
NAMING_BUCKET = "tokenmill_block_naming"
"""The secret that salts the names of K/V blocks, and the prompts that tenants share."""
USAGE_BUCKET = "tokenmill_usage"
"""What each key used on each day."""

MESSAGE_ID_HEADER = "Nats-Msg-Id"


def requests_subject(model: str, lane: str) -> str:
    """Where an attempt waits."""
    return f"tokenmill.requests.{token(model)}.{lane}"


def requests_consumer(model: str, lane: str) -> str:
    """Durable consumer that all schedulers of a model share, per lane."""
    return f"scheduler-{token(model)}-{lane.replace('.', '-')}"


def requests_of(model: str) -> str:
    """All lanes of a model, as a filter."""
    return f"tokenmill.requests.{token(model)}.>"


def lane_of_subject(subject: str) -> str:
    """The lane that a request with this subject waits in."""
    return subject.split(".", 3)[3]


def lane_notice_subject(model: str, lane: str) -> str:
    """Where a gateway says that it uses a lane. The subject is the message."""
    return f"tokenmill.lanes.{token(model)}.{lane}"


def lane_notices_of(model: str) -> str:
    """All such notices of a model, as a subscription."""
    return f"tokenmill.lanes.{token(model)}.>"


def dead_letter_subject(model: str, band: str) -> str:
    """Where a request goes that is not tried again."""
    return f"tokenmill.dead_letters.{token(model)}.{band}"


def queue_status_subject(model: str) -> str:
    """Where schedulers tell of a model's queue."""
    return f"tokenmill.queue_status.{token(model)}"


def heartbeat_subject(model: str, worker_id: str) -> str:
    """Where a worker announces itself."""
    return f"tokenmill.heartbeats.{token(model)}.{token(worker_id)}"


def heartbeats_of(model: str) -> str:
    """All workers of a model, as a subscription."""
    return f"tokenmill.heartbeats.{token(model)}.*"


def kv_events_subject(model: str, worker_id: str) -> str:
    """Where a worker tells of its K/V blocks."""
    return f"tokenmill.kv_events.{token(model)}.{token(worker_id)}"


def kv_events_of(model: str) -> str:
    """The K/V events of all workers of a model, as a subscription."""
    return f"tokenmill.kv_events.{token(model)}.*"


def band_of(request_class: RequestClass, attempt: int) -> str:
    """A later attempt goes ahead of new work: its client has been waiting longest."""
    return RESUME_BAND if attempt > 1 else request_class.value


def lane_of(request_class: RequestClass, attempt: int, tenant: str) -> str:
    """Where in its band a tenant's request waits; the resume band is one lane for all."""
    band = band_of(request_class, attempt)
    if band == RESUME_BAND:
        return band
    return f"{band}.{zlib.crc32(tenant.encode()) % NUM_LANES:03x}"


def band_of_lane(lane: str) -> str:
    """The band that a lane is part of."""
    return lane.partition(".")[0]


def message_id(request_id: str, attempt: int) -> str:
    """JetStream drops a second publish of the same attempt."""
    return f"{request_id}.{attempt}"


def name_of_token(text: str) -> str:
    """The name that `token` made this of."""
    first, *escaped = text.split("=")
    raw = first.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in escaped)
    return raw.decode()


def token(name: str) -> str:
    """A name as one subject token: letters, digits, - and _ stay, the rest becomes =XX per byte."""
    return "".join(
        chr(byte)
        if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-_")
        else f"={byte:02X}"
        for byte in name.encode()
    )
