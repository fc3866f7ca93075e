"""Configuration of the tokenizer service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.runtime.settings import ProcessSettings


class TokenizerSettings(ProcessSettings):
    """Which model's tokenizer is served, and how much it takes."""

    model_name: str = Field(default="SmolLM2-135M-Instruct", min_length=1)
    """Name that requests carry; the same as the workers'."""

    model_dir: Path = Path("model")
    """Hugging Face directory; its tokenizer and configuration files are read, weights are not."""

    max_model_len: int | None = Field(default=None, ge=2)
    """Longest prompt plus answer, tokens; unset: the model's own. The same as the workers'."""

    max_text_bytes: int = Field(default=2 << 20, ge=1)
    """Longest text or conversation, UTF-8 bytes. Well above what 128k tokens hold, and tokenized
    in about a second."""

    max_messages: int = Field(default=4096, ge=1)
    """Most messages of one conversation."""

    num_threads: int = Field(default=2, ge=1)
    """Texts tokenized at the same time."""

    max_pending: int = Field(default=256, ge=1)
    """Texts that may be in work or wait for a thread; more are refused as overload."""
