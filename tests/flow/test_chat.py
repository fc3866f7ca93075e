"""`tokenmill chat` as a person sees it, and as a program does."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from tests.support.cluster import LocalCluster

pytestmark = pytest.mark.flow

COMMAND = [sys.executable, "-m", "services.cli.main", "chat", "--max-tokens", "8"]
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A pseudo-terminal with the command in it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "--state-dir", str(cluster.state_dir)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        )
        os.close(slave)
        self._seen = ""

    def expect(self, text: str, timeout_s: float = 30) -> str:
        """What came until this text, which is consumed."""
        deadline = time.monotonic() + timeout_s
        while text not in self._seen:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"no {text!r} in {self._seen!r}"
            if select.select([self._master], [], [], left_s)[0]:
                self._seen += ANSI.sub("", os.read(self._master, 4096).decode())
        before, _, self._seen = self._seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> int:
        code = self.process.wait(timeout=20)
        os.close(self._master)
        return code


def test_a_person_talks_and_uses_commands(fake_cluster: LocalCluster):
    terminal = Terminal(fake_cluster)
    terminal.expect("> ")
    terminal.type("/help\n")
    assert "/sessions" in terminal.expect("/quit")
    terminal.type("Hello there.\n")
    terminal.expect("+ 8 tokens | length | ")
    session_id = terminal.expect("\r\n").strip()
    terminal.type("/history\n")
    terminal.expect("user: Hello there.")
    terminal.type("/nonsense\n")
    terminal.expect("/nonsense is no command")
    terminal.type("/new\n")
    terminal.expect("begins a conversation")
    terminal.type(f"/use {session_id}\n")
    terminal.expect("2 messages")
    terminal.type("/forget\n")
    terminal.expect("is forgotten")
    terminal.type(f"/use {session_id}\n")
    terminal.expect("refused (404)")
    terminal.type("\x04")
    assert terminal.close() == 0


def test_a_program_gets_one_object_a_line(fake_cluster: LocalCluster):
    done = subprocess.run(
        [*COMMAND, "--json", "--state-dir", str(fake_cluster.state_dir)],
        input="One.\nTwo.\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["session_id"] == second["session_id"]
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    assert first["finish_reason"] == "length"


def test_completion_is_offered_to_the_shell():
    shown = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert "complete -" in shown.stdout
