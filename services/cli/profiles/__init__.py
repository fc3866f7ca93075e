"""Settings that go together, by what a cluster is for: one readable file each."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

from services.cli.failure import CommandFailed
from services.cli.settings_file import PREFIX, read_settings_text

PROFILES = ("chat", "batch", "edge")


def profile_settings(name: str) -> dict[str, str]:
    """Environment variables of a profile.

    Raises:
        CommandFailed: there is no such profile.
    """
    if name not in PROFILES:
        raise CommandFailed(f"--profile is {name!r}; allowed: {', '.join(PROFILES)}", exit_code=2)
    text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    return {PREFIX + field.upper(): v for field, v in read_settings_text(text, name).items()}


def apply_profile(name: str | None, environment: MutableMapping[str, str]) -> None:
    """Adds a profile's settings to an environment; what the user set there stays as it is."""
    if name is not None:
        for variable, value in profile_settings(name).items():
            environment.setdefault(variable, value)
