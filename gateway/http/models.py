"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.catalog import Catalog, ServedModel
from gateway.http.answering import CALLER_SCOPE
from gateway.http.sse import send_reply
from services.core.caller import Caller


class ModelFields(msgspec.Struct):
    """One model; max_model_len is an extension."""

    id: str
    created: int
    max_model_len: int
    object: str = "model"
    owned_by: str = "tokenmill"


class ModelList(msgspec.Struct):
    """All models."""

    data: list[ModelFields]
    object: str = "list"


class ListModels:
    """ASGI endpoint of the list."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        caller: Caller = scope[CALLER_SCOPE]
        models = ModelList(
            [_fields(model) for model in self._catalog.models if caller.may_use(model.name)]
        )
        await send_reply(send, 200, msgspec.json.encode(models))


class ShowModel:
    """ASGI endpoint of one model."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            NotFound: no such model.
            PermissionDenied: the key may not use it.
        """
        model = self._catalog.find(scope["path_params"]["model"])
        scope[CALLER_SCOPE].require_model(model.name)
        await send_reply(send, 200, msgspec.json.encode(_fields(model)))


def _fields(model: ServedModel) -> ModelFields:
    return ModelFields(model.name, model.created_unix_s, model.description.max_model_len)
