"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.catalog import Catalog, ServedModel
from gateway.http.sse import send_reply


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
        models = ModelList([_fields(model) for model in self._catalog.models])
        await send_reply(send, 200, msgspec.json.encode(models))


class ShowModel:
    """ASGI endpoint of one model."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            NotFound: no such model.
        """
        model = self._catalog.find(scope["path_params"]["model"])
        await send_reply(send, 200, msgspec.json.encode(_fields(model)))


def _fields(model: ServedModel) -> ModelFields:
    return ModelFields(model.name, model.created_unix_s, model.description.max_model_len)
