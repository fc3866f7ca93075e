"""Every command that prints results prints them as JSON on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli.main import app
from tests.support.nats import NatsServer

WITHOUT = {
    "up": "serves until it is stopped; `status --json` tells what runs",
    "demo": "a show for people",
    "down": "has no result but its exit status",
    "calibrate": "prints JSON anyway",
    "simulate": "passes its options on, --json among them",
    "bench cache": "passes its options on, --json among them",
}


def commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    below = getattr(group, "commands", None)
    if below is None:
        yield " ".join(path), group
        return
    for name, command in below.items():
        yield from commands(command, *path, name)


def test_every_command_that_prints_results_has_json():
    found = dict(commands(typer.main.get_command(app)))
    lacking = {
        name
        for name, command in found.items()
        if not any("--json" in option.opts for option in command.params)
    }
    assert lacking == set(WITHOUT)


def tokenmill(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_needs_a_broker_alone_prints_json(nats_server: NatsServer, tmp_path: Path):
    token_ids = tmp_path / "ids.json"
    token_ids.write_text(json.dumps(list(range(64))))

    def told(*arguments: str) -> object:
        return json.loads(tokenmill(*arguments, "--json", "--nats-url", nats_server.url))

    created = told("keys", "create", "--name", "anna")
    assert isinstance(created, dict)
    key_id = created["key_id"]
    for command in (
        ("keys", "list"),
        ("keys", "rotate", key_id),
        ("keys", "revoke", key_id),
        ("tenants", "limit", "acme", "--requests-per-min", "5"),
        ("tenants", "list"),
        ("usage",),
        ("cache", "publish", "hello", str(token_ids), "--tokens", "--model", "m"),
        ("cache", "published"),
        ("cache", "withdraw", "hello"),
        ("cache", "rotate-secret"),
    ):
        told(*command)


def test_what_passes_its_options_on_prints_json():
    for command in (("bench", "cache"), ("simulate",)):
        assert "--json" in tokenmill(*command, "--help")


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("bash", {"COMP_WORDS": "tokenmill ke", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "tokenmill ke"}),
    ],
)
def test_a_shell_is_told_how_a_command_goes_on(shell: str, environment: dict[str, str]):
    program = Path(sys.executable).with_name("tokenmill")
    done = subprocess.run(
        [program],
        env={**os.environ, "_TOKENMILL_COMPLETE": f"complete_{shell}", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "keys" in done.stdout
    assert "usage" not in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_installed_where_the_shell_reads_it(shell: str, tmp_path: Path):
    program = Path(sys.executable).with_name("tokenmill")
    subprocess.run(
        [program, "--install-completion", shell],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        },
        capture_output=True,
        timeout=60,
        check=True,
    )
    script = {"bash": ".bash_completions/tokenmill.sh", "zsh": ".zfunc/_tokenmill"}[shell]
    start_up = (tmp_path / f".{shell}rc").read_text()
    assert "_TOKENMILL_COMPLETE" in (tmp_path / script).read_text()
    assert script.split("/")[0] in start_up
