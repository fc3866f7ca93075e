"""Settings that go together, by what a cluster is for: one readable file each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from services.cli.failure import CommandFailed

PROFILES = ("chat", "batch", "edge")
_PREFIX = "TOKENMILL_"


def profile_settings(name: str) -> dict[str, str]:
    """Environment variables of a profile.

    The sections of its file say whose settings they are, for the reader: a name means the same in
    every process that has it.

    Raises:
        CommandFailed: there is no such profile.
    """
    if name not in PROFILES:
        raise CommandFailed(f"--profile is {name!r}; allowed: {', '.join(PROFILES)}", exit_code=2)
    text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    sections: Mapping[str, Mapping[str, object]] = tomllib.loads(text)
    return {
        _PREFIX + field.upper(): str(value)
        for section in sections.values()
        for field, value in section.items()
    }


def apply_profile(name: str | None, environment: MutableMapping[str, str]) -> None:
    """Adds a profile's settings to an environment; what the user set there stays as it is."""
    if name is not None:
        for variable, value in profile_settings(name).items():
            environment.setdefault(variable, value)
