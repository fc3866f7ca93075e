"""All HTTP routes."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.authenticator import Authenticator
from gateway.catalog import Catalog
from gateway.http.answering import AnswerRoute, Exchange, RequestHead
from gateway.http.chat_completions import ChatCompletions
from gateway.http.completions import Completions
from gateway.http.door import Door
from gateway.http.models import ListModels, ShowModel
from gateway.http.native import NativeRoutes
from gateway.http.probes import Readyz, livez, metrics
from gateway.http.usage import ShowUsage
from gateway.intake import Intake
from gateway.readiness import Readiness
from gateway.usage_book import UsageBook

_MODEL_ROUTE = "/v1/models/{model}"


def build_app(
    intake: Intake,
    catalog: Catalog,
    readiness: Readiness,
    authenticator: Authenticator,
    usage: UsageBook,
    *,
    max_body_bytes: int,
    request_timeout_s: float,
) -> ASGIApp:
    """The HTTP door as an ASGI application."""

    def answering(path: str, parse: Callable[[bytes, RequestHead], Exchange]) -> Route:
        route = AnswerRoute(
            intake, parse, max_body_bytes=max_body_bytes, request_timeout_s=request_timeout_s
        )
        return Route(path, route, methods=["POST"])

    native = NativeRoutes(catalog)
    routes = [
        answering("/v1/chat/completions", ChatCompletions(catalog).parse),
        answering("/v1/completions", Completions(catalog).parse),
        answering("/api/v1/inference/generate", native.parse_generate),
        answering("/api/chat/message", native.parse_message),
        Route("/v1/models", ListModels(catalog), methods=["GET"]),
        # A model's name may hold slashes.
        Route("/v1/models/{model:path}", ShowModel(catalog), methods=["GET"]),
        Route("/api/v1/usage", ShowUsage(usage), methods=["GET"]),
        Route("/livez", _Endpoint(livez), methods=["GET"]),
        Route("/readyz", Readyz(readiness), methods=["GET"]),
        Route("/metrics", _Endpoint(metrics), methods=["GET"]),
    ]
    known = {route.path for route in routes}

    def route_of(path: str) -> str:
        if path.startswith("/v1/models/"):
            return _MODEL_ROUTE
        return path if path in known else "unknown"

    router = Router(routes, redirect_slashes=False)
    return Door(router, authenticator, route_of=route_of)


class _Endpoint:
    """An ASGI function as an object: Starlette takes bare functions for request handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on."""
        await self._app(scope, receive, send)
