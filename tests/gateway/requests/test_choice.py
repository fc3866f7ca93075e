"""A choice whose tokens go past its reader."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from gateway.ask import Ask, Piece, TextPrompt
from gateway.requests.choice import Choice
from gateway.requests.live_request import LiveRequest
from gateway.requests.record import AnswerRecord
from gateway.text.detokenizer import TokenVocabulary
from gateway.text.text_stream import TextStream
from services.core.errors import TokenmillError
from services.core.request import FinishReason
from tests.gateway.requests.test_live_request import attached, delta, live_request
from tests.gateway.text.test_detokenizer import byte_level_tokenizer

VOCABULARY = TokenVocabulary(byte_level_tokenizer())


class Sink:
    """Takes all, or breaks."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.texts: list[str] = []
        self._breaks = breaks

    def is_ready(self) -> bool:
        return True

    def take(self, piece: Piece) -> None:
        self.texts.append(piece.text)

    def text_taker(self, choice_idx: int) -> Callable[[bytes], None]:
        def take(content: bytes) -> None:
            if self._breaks:
                raise RuntimeError("the connection is gone")
            self.texts.append(json.loads(content))

        return take


def choice_of(live: LiveRequest) -> Choice:
    ask = Ask("r", TextPrompt("x"), int(time.time() * 1000) + 60_000)
    return Choice(
        live,
        TextStream(VOCABULARY),
        AnswerRecord(ask, model="m"),
        choice_idx=0,
        stop=lambda _: None,
    )


async def test_pushed_tokens_and_read_ones_join_to_the_whole_text():
    text = "so it h\N{LATIN SMALL LETTER E WITH ACUTE}, \N{GRINNING FACE}!"
    token_ids = VOCABULARY.encode(text)
    live, sink = live_request(max_tokens=len(token_ids)), Sink()
    worker, choice = attached(live), choice_of(live)
    choice.divert(sink)
    read: list[str] = []

    async def reader() -> None:
        async for piece in choice.pieces():
            read.append(piece.text)

    reading = asyncio.ensure_future(reader())
    await asyncio.sleep(0)
    for position, token_id in enumerate(token_ids[:-1]):
        live.accept_next(worker, position, token_id, 1)
    live.accept(worker, delta(len(token_ids) - 1, token_ids[-1], finish=FinishReason.LENGTH))
    await reading
    assert "".join(sink.texts) + "".join(read) == text
    assert "".join(choice.texts) == text
    assert choice.num_tokens == len(token_ids)
    assert len(sink.texts) > 1


async def test_a_token_that_cannot_be_written_ends_its_answer_alone():
    live = live_request()
    worker, choice = attached(live), choice_of(live)
    choice.divert(Sink(breaks=True))
    reading = asyncio.ensure_future(anext(choice.pieces()))
    await asyncio.sleep(0)
    live.accept_next(worker, 0, VOCABULARY.encode("a")[0], 1)
    with pytest.raises(TokenmillError, match="could not be written"):
        await reading
