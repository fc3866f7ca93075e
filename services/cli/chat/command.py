"""The command itself: where lines come from, and what a program gets."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import httpx

from services.cli.ask import Gateway
from services.cli.chat.client import authorities, key_headers
from services.cli.chat.conversation import Conversation, Wishes
from services.cli.chat.screen import Screen

_PROMPT = "> "
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 300.0


def chat(gateway: Gateway, wishes: Wishes, session_id: str | None, *, as_json: bool) -> None:
    """Talks until the end of the input.

    Raises:
        CommandFailed: with as_json, the first turn that fails.
    """
    # Without trust_env: a proxy of the user's shell cannot reach this machine's loopback.
    with httpx.Client(
        base_url=gateway.url,
        timeout=httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
        trust_env=False,
        verify=authorities(),
        headers=key_headers(gateway.api_key),
    ) as client:
        conversation = Conversation(client, gateway.model, wishes, session_id)
        if as_json:
            _answer_lines(conversation)
        elif sys.stdin.isatty():
            Screen(conversation).run(_typed_lines())
        else:
            Screen(conversation).run(iter(sys.stdin))


def _answer_lines(conversation: Conversation) -> None:
    for line in sys.stdin:
        if text := line.strip():
            turn = conversation.say(text, lambda _: None)
            sys.stdout.write(json.dumps(asdict(turn)) + "\n")
            sys.stdout.flush()


def _typed_lines() -> Iterator[str]:
    """Lines of a person, with editing and history where Python has them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
