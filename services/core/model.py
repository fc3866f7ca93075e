"""What the rest of the cluster needs to know of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A served model, as its tokenizer describes it.

    Attributes:
        max_model_len: longest prompt plus answer, tokens.
        eos_token_ids: all end-of-sequence ids of the model's own files.
        vocab_size: ids 0 .. vocab_size - 1 are valid.
    """

    name: str
    max_model_len: int
    eos_token_ids: tuple[int, ...]
    vocab_size: int
    has_chat_template: bool
