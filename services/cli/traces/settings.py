"""Settings of the trace store process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.runtime.settings import ProcessSettings


class TracesSettings(ProcessSettings):
    """Read from the environment: field `http_port` is TOKENMILL_HTTP_PORT, and so on."""

    http_port: int = Field(default=4318, ge=0, le=65535)
    """Port of the OTLP/HTTP receiver; 0 takes a free one. 4318 is the one that OTLP names."""

    traces_file: Path = Path("traces.sqlite")
    """Where spans are kept."""
