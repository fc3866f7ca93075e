"""The outermost ASGI layer: request id, span, duration, and one way to say errors."""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.authenticator import Authenticator
from gateway.http.answering import CALLER_SCOPE, REQUEST_ID_SCOPE
from gateway.http.anthropic_wire import anthropic_error_body
from gateway.http.errors import error_body, error_headers, error_status
from gateway.http.sse import send_reply
from gateway.metrics import HTTP_DURATION
from gateway.requests.request_ids import request_ids
from services.core.caller import Caller
from services.core.errors import RequestCancelled, TokenmillError
from services.runtime import names
from services.runtime.logs import bind_request, get_logger
from services.runtime.telemetry import context_from_headers, inject_headers, tracer

log = get_logger(__name__)

REQUEST_ID_HEADER = b"x-request-id"
_ANTHROPIC = "/v1/messages"
# Asked every few seconds by machines: their spans would bury the others.
# The page's files hold no secret: it asks for a key itself.
_PAGE_ROUTES = ("/", "/ui/{path}")
_UNTRACED = {"/livez", "/readyz", "/health", "/metrics", "/api/v1/live", *_PAGE_ROUTES}
# Of a process, not of a caller: who may reach the port may ask.
_PUBLIC = {"/livez", "/readyz", "/health", "/openapi.json", *_PAGE_ROUTES}


class Door:
    """Wraps the router.

    Args:
        app: the router; may raise anything.
        authenticator: who calls.
        route_of: path to route template; names spans, so it must have few values.
    """

    def __init__(
        self, app: ASGIApp, authenticator: Authenticator, *, route_of: Callable[[str], str]
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            # Lifespan is switched off and no route is a websocket.
            return
        visit = _Visit(scope, self._route_of(scope["path"]), send)
        scope["app"] = self
        scope[REQUEST_ID_SCOPE] = visit.ids.own
        bind_request(visit.ids.own)
        try:
            with trace.use_span(visit.span, record_exception=False, set_status_on_exception=False):
                if visit.route not in _PUBLIC:
                    visit.caller = await self._authenticator.caller(visit.headers)
                    scope[CALLER_SCOPE] = visit.caller
                await self._app(scope, receive, visit.send)
        except RequestCancelled as exc:
            # Nobody is there to be told.
            visit.status = error_status(exc)
        except Exception as exc:
            await visit.say(exc)
        finally:
            visit.end()


def body_of(route: str) -> Callable[[BaseException], bytes]:
    """How a route's clients read errors."""
    return anthropic_error_body if route.startswith(_ANTHROPIC) else error_body


class _Visit:
    """One HTTP request on its way."""

    def __init__(self, scope: Scope, route: str, send: Send) -> None:
        self._started_s = time.perf_counter()
        self._send = send
        self._method: str = scope["method"]
        self.route = route
        self._has_started = False
        self.caller: Caller | None = None
        self.status = error_status(RequestCancelled("the client left"))
        self.headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        self.ids = request_ids(self.headers.get(REQUEST_ID_HEADER.decode(), ""))
        if route in _UNTRACED:
            self.span = trace.INVALID_SPAN
        else:
            self.span = tracer.start_span(
                f"{self._method} {route}",
                context_from_headers(self.headers),
                SpanKind.SERVER,
                {
                    names.HTTP_REQUEST_METHOD: self._method,
                    names.HTTP_ROUTE: route,
                    names.URL_PATH: scope["path"][:256],
                    names.REQUEST_ID: self.ids.shown,
                },
            )
        traced: dict[str, str] = {}
        inject_headers(traced, trace.set_span_in_context(self.span))
        self._extra = [(REQUEST_ID_HEADER, self.ids.shown.encode())]
        if route.startswith(_ANTHROPIC):
            # Where Anthropic's clients look for it.
            self._extra.append((b"request-id", self.ids.shown.encode()))
        self._extra.extend((key.encode(), value.encode()) for key, value in traced.items())

    async def send(self, message: Message) -> None:
        """Adds our headers to the reply's."""
        if message["type"] == "http.response.start":
            self._has_started = True
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._extra]
        await self._send(message)

    async def say(self, error: Exception) -> None:
        """Answers with an error; a reply that has begun is cut off, which clients see."""
        if not isinstance(error, TokenmillError | HTTPException):
            log.error("http.failed", http_route=self.route, exc_info=error)
        if self._has_started:
            log.warning("http.cut_off", http_route=self.route, error=repr(error))
            return
        headers = error_headers(error)
        body = body_of(self.route)(error)
        await send_reply(self.send, error_status(error), body, headers=headers)

    def end(self) -> None:
        """Ends the span, counts, and logs who asked what, never the content."""
        self.span.set_attribute(names.HTTP_RESPONSE_STATUS_CODE, self.status)
        if self.status >= 500:
            self.span.set_attribute(names.ERROR_TYPE, str(self.status))
            self.span.set_status(StatusCode.ERROR)
        self.span.end()
        duration_s = time.perf_counter() - self._started_s
        HTTP_DURATION.labels(self._method[:16], self.route, str(self.status)).observe(duration_s)
        if self.route not in _UNTRACED:
            log.info(
                "http.served",
                http_request_method=self._method[:16],
                http_route=self.route,
                http_status=self.status,
                duration_s=round(duration_s, 6),
                tenant=self.caller.tenant if self.caller else None,
                key_id=self.caller.key_id if self.caller else None,
            )
