"""OTLP trace messages to spans."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.cli.traces.span import AttributeValue, SpanLink, StoredSpan
from services.core.errors import BodyTooLarge, InvalidRequest

MAX_MESSAGE_BYTES = 32 << 20
"""Unpacked; an SDK's batch of 512 spans has about 300 KiB."""

_KINDS = {
    Span.SPAN_KIND_INTERNAL: "internal",
    Span.SPAN_KIND_SERVER: "server",
    Span.SPAN_KIND_CLIENT: "client",
    Span.SPAN_KIND_PRODUCER: "producer",
    Span.SPAN_KIND_CONSUMER: "consumer",
}


def decode_export(body: bytes, encoding: str) -> list[StoredSpan]:
    """All spans of one export request.

    Args:
        body: as received.
        encoding: content encoding: empty, identity or gzip.

    Raises:
        InvalidRequest: it is none, or of another encoding.
        BodyTooLarge: it unpacks to more than MAX_MESSAGE_BYTES.
    """
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(_unpack(body, encoding))
    except DecodeError as exc:
        raise InvalidRequest("body is no ExportTraceServiceRequest", field="body") from exc
    return list(_spans(message))


def _unpack(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise InvalidRequest(
            f"content-encoding is {encoding!r}; allowed: gzip", field="content-encoding"
        )
    try:
        # wbits beyond 16: a gzip header is expected. Bounded, so that a bomb stays small.
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        unpacked = unpacker.decompress(body, MAX_MESSAGE_BYTES + 1)
    except (zlib.error, gzip.BadGzipFile) as exc:
        raise InvalidRequest("body is no gzip data", field="body") from exc
    if len(unpacked) > MAX_MESSAGE_BYTES:
        raise BodyTooLarge(size_bytes=len(unpacked), limit_bytes=MAX_MESSAGE_BYTES)
    return unpacked


def _spans(message: ExportTraceServiceRequest) -> Iterator[StoredSpan]:
    for resource_spans in message.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        service = str(resource.get("service.name", "unknown"))
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, service, resource)


def _span(span: Span, service: str, resource: dict[str, AttributeValue]) -> StoredSpan:
    attributes = _attributes(span.attributes)
    if instance := resource.get("service.instance.id"):
        # Kept with the span: which of several workers it was is what a reader asks first.
        attributes["service.instance.id"] = instance
    if span.status.message:
        attributes["status.message"] = span.status.message
    return StoredSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        service=service,
        kind=_KINDS.get(span.kind, "internal"),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=attributes,
        links=tuple(
            SpanLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
            for link in span.links
        ),
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> AttributeValue:
    match value.WhichOneof("value"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "array_value":
            # Nested lists are not allowed in attributes; an SDK that sends one gets its text.
            return [
                item if not isinstance(item, list) else str(item)
                for item in (_value(element) for element in value.array_value.values)
            ]
        case "bytes_value":
            return value.bytes_value.hex()
        case _:
            return value.string_value
