"""What goes wrong while an engine is built."""

from __future__ import annotations

from services.core.errors import TokenmillError


class UnsupportedModel(TokenmillError):
    """The engine cannot compute this model rightly, so it does not load it.

    Attributes:
        architecture: class name in the model's config.
    """

    reason = "UNSUPPORTED_MODEL"

    def __init__(self, *, architecture: str, why: str) -> None:
        super().__init__(f"model {architecture} cannot be served by the torch engine: {why}")
        self.architecture = architecture
