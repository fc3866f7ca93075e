"""What a Hugging Face model directory says beside its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.core.model import ModelDescription

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
"""Names that model families use for the longest sequence."""

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
"""Special tokens that a chat template may speak of."""


class BadModelFiles(Exception):
    """The directory lacks something; the message names the file."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model directory, read.

    Attributes:
        tokenizer_json: the file as it is.
        chat_template: Jinja source; None if the model has none.
        special_tokens: by role, for the template.
        max_model_len: None if no file tells.
    """

    tokenizer_json: bytes
    chat_template: str | None
    special_tokens: dict[str, str] = field(default_factory=dict[str, str])
    eos_token_ids: tuple[int, ...] = ()
    max_model_len: int | None = None
    vocab_size: int = 0

    def describe(self, name: str, max_model_len: int | None) -> ModelDescription:
        """The model as gateways see it.

        Args:
            name: what clients call it.
            max_model_len: shorter than the model's own, or None.

        Raises:
            BadModelFiles: neither the files nor the caller tell the context length.
        """
        known = [length for length in (self.max_model_len, max_model_len) if length is not None]
        if not known:
            raise BadModelFiles("config.json names no context length; set TOKENMILL_MAX_MODEL_LEN")
        return ModelDescription(
            name=name,
            max_model_len=min(known),
            eos_token_ids=self.eos_token_ids,
            vocab_size=self.vocab_size,
            has_chat_template=self.chat_template is not None,
        )


def read_model_files(directory: Path) -> ModelFiles:
    """Reads tokenizer, configuration and chat template.

    Raises:
        BadModelFiles: a file that is needed is missing, or one is damaged.
    """
    try:
        tokenizer_json = (directory / "tokenizer.json").read_bytes()
        vocabulary = json.loads(tokenizer_json)
    except (OSError, ValueError) as exc:
        raise BadModelFiles(f"{directory}/tokenizer.json cannot be read: {exc}") from exc
    config = _read_json(directory / "config.json")
    # Models that also see or hear keep what concerns text one level down.
    text_config = {**config, **config.get("text_config", {})}
    generation = _read_json(directory / "generation_config.json")
    tokenizer_config = _read_json(directory / "tokenizer_config.json")
    special_tokens = _special_tokens(tokenizer_config)
    eos_ids = {
        *_ids(generation.get("eos_token_id")),
        *_ids(text_config.get("eos_token_id")),
        *_ids(_token_ids(vocabulary).get(special_tokens.get("eos_token", ""))),
    }
    return ModelFiles(
        tokenizer_json=tokenizer_json,
        chat_template=_chat_template(directory, tokenizer_config),
        special_tokens=special_tokens,
        eos_token_ids=tuple(sorted(eos_ids)),
        max_model_len=next((text_config[key] for key in CONTEXT_KEYS if key in text_config), None),
        vocab_size=text_config.get("vocab_size") or 1 + max(_token_ids(vocabulary).values()),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise BadModelFiles(f"{path} cannot be read: {exc}") from exc


def _token_ids(vocabulary: dict[str, Any]) -> dict[str, int]:
    tokens = vocabulary.get("model", {}).get("vocab", {})
    if isinstance(tokens, list):
        # Unigram models list [token, score] by id.
        tokens = {entry[0]: token_id for token_id, entry in enumerate(tokens)}
    added = {token["content"]: token["id"] for token in vocabulary.get("added_tokens", ())}
    return {**tokens, **added}


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _special_tokens(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role in SPECIAL_TOKENS:
        token = tokenizer_config.get(role)
        # Older files keep a token with its properties.
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[role] = text
    return found


def _chat_template(directory: Path, tokenizer_config: dict[str, Any]) -> str | None:
    try:
        # Newest place first.
        return (directory / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as exc:
        raise BadModelFiles(f"{directory}/chat_template.jinja cannot be read: {exc}") from exc
    template = _read_json(directory / "chat_template.json").get(
        "chat_template", tokenizer_config.get("chat_template")
    )
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template
