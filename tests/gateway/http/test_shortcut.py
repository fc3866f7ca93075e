"""A token's short way to the client gives the bytes of the long one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.ask import Piece
from gateway.http.anthropic_wire import MessageWriter
from gateway.http.chat_completions import ChatWriter
from gateway.http.completions import CompletionWriter
from gateway.http.logprob_fields import ChatLogprobs, CompletionLogprobs
from gateway.http.native import NativeWriter
from tests.gateway.fake_cluster import fake_loaded_tokenizer

TEXTS = (" so", "\N{OBJECT REPLACEMENT CHARACTER}", 'say "it"\n', "\N{GRINNING FACE}")


def frame(**changes: Any) -> dict[str, Any]:
    return {
        "reply_id": "r",
        "kind": "k",
        "chunk_kind": "c",
        "model": "m \N{OBJECT REPLACEMENT CHARACTER}",
        "include_usage": True,
        "tells_usage_so_far": False,
        "return_token_ids": False,
        **changes,
    }


def chat(**changes: Any) -> ChatWriter:
    return ChatWriter(ChatLogprobs(fake_loaded_tokenizer().vocabulary), **frame(**changes))


def completion() -> CompletionWriter:
    vocabulary = fake_loaded_tokenizer().vocabulary
    return CompletionWriter(CompletionLogprobs(vocabulary), [], **frame())


def native() -> NativeWriter:
    return NativeWriter("r", "m", session_id="s", return_token_ids=False)


@pytest.mark.parametrize(
    "writer",
    [chat(), completion(), native(), MessageWriter("msg", "m")],
    ids=lambda w: type(w).__name__,
)
def test_around_a_text_is_what_its_events_have(writer: Any):
    writer.events(Piece("first", (5,)))
    around = writer.around_text(0)
    assert around is not None
    for text in TEXTS:
        assert around[0] + msgspec.json.encode(text) + around[1] == writer.events(Piece(text, (6,)))


@pytest.mark.parametrize("more", ["tells_usage_so_far", "return_token_ids"])
def test_events_that_tell_more_than_a_text_have_no_short_way(more: str):
    assert chat(**{more: True}).around_text(0) is None
