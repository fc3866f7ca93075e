"""All HTTP routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.authenticator import Authenticator
from gateway.catalog import Catalog
from gateway.http.answering import AnswerRoute, Exchange, RequestHead
from gateway.http.anthropic_messages import AnthropicMessages
from gateway.http.chat_completions import ChatCompletions
from gateway.http.completions import Completions
from gateway.http.door import Door
from gateway.http.live import Explain, ShowLive
from gateway.http.models import ListModels, ShowModel
from gateway.http.native import NativeRoutes
from gateway.http.openapi.document import ShowDocument
from gateway.http.page import Page
from gateway.http.probes import Readyz, livez, metrics
from gateway.http.responses.input_items import ShowInputItems
from gateway.http.responses.routes import (
    CreateResponse,
    KeptResponse,
    cancel,
    delete,
    deleted,
    leave,
    shown,
)
from gateway.http.responses.shelf import Shelf
from gateway.http.session_routes import SessionRoute, SessionWork
from gateway.http.token_routes import CountRoute, Detokenize, Tokenize
from gateway.http.usage import ShowUsage
from gateway.intake import Intake
from gateway.live_view.snapshot import LiveView
from gateway.prompts import PromptReader
from gateway.quota.usage_book import UsageBook
from gateway.readiness import Readiness
from gateway.sessions.sessions import Sessions

_EXPOSED_HEADERS = [
    "x-request-id",
    "x-session-id",
    "x-result-cache",
    "age",
    "retry-after",
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
]


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What the routes stand on."""

    intake: Intake
    catalog: Catalog
    prompts: PromptReader
    readiness: Readiness
    authenticator: Authenticator
    usage: UsageBook
    shelf: Shelf
    sessions: Sessions
    live_view: LiveView
    traces_url: str
    tasks: asyncio.TaskGroup


def build_app(
    parts: HttpParts, *, cors_origins: str, max_body_bytes: int, request_timeout_s: float
) -> ASGIApp:
    """The HTTP door as an ASGI application."""
    catalog, shelf = parts.catalog, parts.shelf
    limits = {"max_body_bytes": max_body_bytes, "request_timeout_s": request_timeout_s}

    def answering(path: str, parse: Callable[[bytes, RequestHead], Exchange]) -> Route:
        return Route(path, AnswerRoute(parts.intake, parse, **limits), methods=["POST"])

    counting = partial(CountRoute, parts.prompts, **limits)
    native, anthropic = NativeRoutes(catalog), AnthropicMessages(catalog)
    create_response = CreateResponse(parts.intake, catalog, shelf, parts.tasks, **limits)
    work, session = SessionWork(parts.sessions), "/api/chat/sessions/{session_id}"
    response = "/v1/responses/{response_id}"
    page = Page()
    routes = [
        answering("/v1/chat/completions", ChatCompletions(catalog).parse),
        answering("/v1/completions", Completions(catalog).parse),
        Route("/v1/responses", create_response, methods=["POST"]),
        Route(response, KeptResponse(shelf, leave, shown), methods=["GET"]),
        Route(response, KeptResponse(shelf, delete, deleted), methods=["DELETE"]),
        Route(f"{response}/input_items", ShowInputItems(shelf), methods=["GET"]),
        Route(f"{response}/cancel", KeptResponse(shelf, cancel, shown), methods=["POST"]),
        answering("/v1/messages", anthropic.parse),
        Route("/v1/messages/count_tokens", counting(anthropic.parse_count), methods=["POST"]),
        Route("/tokenize", counting(Tokenize(catalog).parse), methods=["POST"]),
        Route("/detokenize", Detokenize(catalog, max_body_bytes=max_body_bytes), methods=["POST"]),
        answering("/api/v1/inference/generate", native.parse_generate),
        answering("/api/chat/message", native.parse_message),
        Route("/api/chat/sessions", SessionRoute(work.show_all), methods=["GET"]),
        Route(session, SessionRoute(work.show), methods=["GET"]),
        Route(session, SessionRoute(work.delete), methods=["DELETE"]),
        Route("/v1/models", ListModels(catalog), methods=["GET"]),
        # A model's name may hold slashes.
        Route("/v1/models/{model:path}", ShowModel(catalog), methods=["GET"]),
        Route("/api/v1/usage", ShowUsage(parts.usage), methods=["GET"]),
        Route("/api/v1/live", ShowLive(parts.live_view), methods=["GET"]),
        Route("/api/v1/explain/{request_id}", Explain(parts.traces_url), methods=["GET"]),
        Route("/openapi.json", ShowDocument(), methods=["GET"]),
        Route("/", page, methods=["GET"]),
        Route("/ui/{path:path}", page, methods=["GET"]),
        Route("/livez", _Endpoint(livez), methods=["GET"]),
        Route("/readyz", Readyz(parts.readiness), methods=["GET"]),
        # The name that vLLM's clients ask.
        Route("/health", Readyz(parts.readiness), methods=["GET"]),
        Route("/metrics", _Endpoint(metrics), methods=["GET"]),
    ]
    router = Router(routes, redirect_slashes=False)
    door = Door(router, parts.authenticator, route_of=_Templates(routes).of)
    return _for_browsers(door, cors_origins) if cors_origins else door


def _for_browsers(app: ASGIApp, origins: str) -> ASGIApp:
    """Answers preflights, which bring no key, and lets pages of these origins read replies."""
    return CORSMiddleware(
        app,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=_EXPOSED_HEADERS,
        max_age=600,
    )


class _Templates:
    """Paths to route templates, which name spans and metrics: few values, whatever is asked."""

    def __init__(self, routes: list[Route]) -> None:
        self._plain = {route.path for route in routes if not route.param_convertors}
        self._patterns = [
            (route.path_regex, route.path_format) for route in routes if route.param_convertors
        ]

    def of(self, path: str) -> str:
        """The template of a path; `unknown` if there is none."""
        if path in self._plain:
            return path
        return next((name for regex, name in self._patterns if regex.match(path)), "unknown")


class _Endpoint:
    """An ASGI function as an object: Starlette takes bare functions for request handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on."""
        await self._app(scope, receive, send)
