"""The models that can be asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.tokenizer_client import LoadedTokenizer
from services.core.errors import DependencyLost, NotFound, TokenmillError
from services.core.model import ModelDescription
from services.core.request import ChatMessage
from services.runtime.logs import get_logger

log = get_logger(__name__)

LOAD_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model whose tokenizer is loaded; created_unix_s is when."""

    loaded: LoadedTokenizer
    created_unix_s: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.loaded.description.name

    @property
    def description(self) -> ModelDescription:
        """What its tokenizer says of it."""
        return self.loaded.description


class Tokenizing(Protocol):
    """The tokenizer service, as the gateway needs it. Concurrent calls are safe."""

    async def load_tokenizer(self) -> LoadedTokenizer:
        """Fetches the served model's tokenizer.

        Raises:
            TokenmillError: the service does not answer, or sent something broken.
        """
        ...

    async def tokenize_text(self, text: str, *, model: str, timeout_s: float) -> Sequence[int]:
        """Ids of plain text.

        Raises:
            TokenmillError: refused, or no answer in time.
        """
        ...

    async def tokenize_conversation(
        self, messages: Sequence[ChatMessage], *, model: str, timeout_s: float
    ) -> Sequence[int]:
        """Ids of a conversation, by the model's chat template.

        Raises:
            TokenmillError: refused, or no answer in time.
        """
        ...


class Catalog:
    """Empty until the tokenizer service has answered once."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}

    @property
    def models(self) -> list[ServedModel]:
        """All of them; the first is the default."""
        return list(self._models.values())

    def add(self, loaded: LoadedTokenizer) -> None:
        """A model can be asked for from now on."""
        self._models[loaded.description.name] = ServedModel(loaded, int(time.time()))

    def find(self, name: str) -> ServedModel:
        """The model of this name; of an empty name, the default.

        Raises:
            NotFound: no such model.
            DependencyLost: no model is loaded yet.
        """
        if not self._models:
            raise DependencyLost("the tokenizer is not loaded yet", retry_after_s=1.0)
        if not name:
            return next(iter(self._models.values()))
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models)
            raise NotFound(
                f"model {name[:200]!r} does not exist; there are: {known}",
                field="model",
                reason="MODEL_NOT_FOUND",
            )
        return model

    async def load_until_known(self, tokenizer: Tokenizing) -> None:
        """Asks the tokenizer service until it answers."""
        while not self._models:
            try:
                loaded = await tokenizer.load_tokenizer()
            except TokenmillError as exc:
                log.warning("tokenizer.not_loaded", reason=exc.reason, error=exc.message)
                await asyncio.sleep(LOAD_PAUSE_S)
            else:
                self.add(loaded)
                log.info("tokenizer.loaded", model=loaded.description.name)
