"""A file of settings: sections that say whose they are, as profiles have; `tune` writes one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from services.cli.failure import CommandFailed

PREFIX = "TOKENMILL_"
CLUSTER = "cluster"
"""Section of what is no process's own: `workers`, `gateways`."""

MAX_PROCESSES = 64
_CLUSTER_FIELDS = ("workers", "gateways")
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "worker": (
        "quantization", "kv_dtype", "max_num_seqs", "max_batched_tokens", "itl_target_ms",
        "speculation", "kv_bytes", "cache_offer_queue_bytes", "trace_steps",
    ),
    "scheduler": ("max_batch_size",),
    CLUSTER: _CLUSTER_FIELDS,
}  # fmt: skip
"""Where a file that is written has each field."""


def read_settings_text(text: str, name: str) -> dict[str, str]:
    """Fields and values of a settings file.

    The sections say whose settings they are, for the reader: a name means the same in every process
    that has it.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        CommandFailed: it is no TOML, or has something else than sections of plain values.
    """
    try:
        sections = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise CommandFailed(f"{name} is no TOML: {exc}", exit_code=2) from exc
    found: dict[str, str] = {}
    for section, fields in sections.items():
        if not isinstance(fields, dict):
            raise CommandFailed(
                f"{name} has {section!r} outside of a section; allowed: fields under"
                " [worker], [scheduler], [gateway], [cache], [queue], [cluster]",
                exit_code=2,
            )
        for field, value in fields.items():
            if not isinstance(value, str | int | float | bool):
                raise CommandFailed(
                    f"{name}: {section}.{field} is {value!r}; allowed: text, number or true/false",
                    exit_code=2,
                )
            if section == CLUSTER:
                _check_cluster_field(name, field, value)
            found[field] = str(value)
    return found


def apply_settings_file(path: Path | None, environment: MutableMapping[str, str]) -> dict[str, int]:
    """Adds a file's settings to an environment; what the user set there stays as it is.

    Returns:
        How many processes the file asks for, by `workers` and `gateways`.

    Raises:
        CommandFailed: the file cannot be used.
    """
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise CommandFailed(f"--settings {path} cannot be read: {exc}", exit_code=2) from exc
    fields = read_settings_text(text, str(path))
    counts = {name: int(fields.pop(name)) for name in _CLUSTER_FIELDS if name in fields}
    for field, value in fields.items():
        environment.setdefault(PREFIX + field.upper(), value)
    return counts


def settings_text(fields: Mapping[str, str], comment: str) -> str:
    """A settings file.

    Args:
        fields: of the sections above, with their values as environment variables have them.
        comment: stands at its head; may have several lines.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    for section, names in _SECTIONS.items():
        own = [name for name in names if name in fields]
        if own:
            lines += ["", f"[{section}]", *(f"{name} = {_toml(fields[name])}" for name in own)]
    return "\n".join(lines) + "\n"


def _check_cluster_field(name: str, field: str, value: object) -> None:
    if field not in _CLUSTER_FIELDS:
        allowed = ", ".join(_CLUSTER_FIELDS)
        raise CommandFailed(f"{name}: [cluster] has {field!r}; allowed: {allowed}", exit_code=2)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_PROCESSES:
        raise CommandFailed(
            f"{name}: cluster.{field} is {value!r}; allowed: 1 to {MAX_PROCESSES}", exit_code=2
        )


def _toml(value: str) -> str:
    if value in ("True", "False"):
        return value.lower()
    try:
        float(value)
    except ValueError:
        return f'"{value}"'
    return value
