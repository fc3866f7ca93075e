import asyncio
import contextlib
import threading
from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenmill.v1.tokenizer_pb2_grpc import (
    TokenizerServiceServicer,
    add_TokenizerServiceServicer_to_server,
)

from gateway.tokenizer_client import SHORT_CHARS, TokenizerClient
from services.core.errors import (
    DeadlineExceeded,
    DependencyLost,
    InvalidRequest,
    NotFound,
    Overloaded,
)
from services.core.model import ModelDescription
from services.core.request import ChatMessage
from services.runtime.rpc_client import open_channel
from services.runtime.rpc_server import RpcServer
from services.wire.tokenizer import (
    TokenizerArtefact,
    artefact_to_pb,
    tokenize_request_from_pb,
    tokenize_response_to_pb,
)

DESCRIPTION = ModelDescription("tiny", 128, (2,), 256, True)


def tiny_tokenizer_json() -> bytes:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str().encode()


class FakeTokenizerService(TokenizerServiceServicer):
    """Ids are lengths; `faults` are raised first, one per call."""

    def __init__(self, faults: Sequence[Exception] = ()) -> None:
        self.faults = list(faults)
        self.artefact = list(artefact_to_pb(TokenizerArtefact(DESCRIPTION, tiny_tokenizer_json())))
        self.called = asyncio.Event()

    async def Tokenize(self, request, context):
        self.called.set()
        if self.faults:
            raise self.faults.pop(0)
        query = tokenize_request_from_pb(request)
        if query.content == "wait":
            await asyncio.Event().wait()
        if isinstance(query.content, str):
            return tokenize_response_to_pb([len(query.content)])
        return tokenize_response_to_pb([len(entry.content) for entry in query.content])

    async def GetTokenizer(self, request, context):
        for message in self.artefact:
            yield message


class Stand:
    """A fake service that can be stopped and started on one address, and a client."""

    def __init__(self, patience_s: float = 10.0) -> None:
        self.service = FakeTokenizerService()
        self.port = 0
        self.patience_s = patience_s

    async def start(self) -> None:
        self.server = RpcServer()
        self.server.add(
            add_TokenizerServiceServicer_to_server, self.service, "tokenmill.v1.TokenizerService"
        )
        self.port = await self.server.start("127.0.0.1", self.port)

    async def __aenter__(self) -> "Stand":
        await self.start()
        target = f"127.0.0.1:{self.port}"
        self.channel = open_channel(target, traces_unary=False)
        self.client = TokenizerClient(self.channel, target, patience_s=self.patience_s)
        return self

    async def __aexit__(self, *_) -> None:
        await self.channel.close()
        await self.server.stop(0)


async def test_text_and_conversations_become_ids():
    async with Stand() as stand:
        assert await stand.client.tokenize_text("four") == (4,)
        messages = [ChatMessage("user", "a"), ChatMessage("assistant", "bc")]
        assert await stand.client.tokenize_conversation(messages) == (1, 2)


async def test_the_artefact_is_loaded_and_decodes():
    async with Stand() as stand:
        loaded = await stand.client.load_tokenizer()
    assert loaded.description == DESCRIPTION
    token_ids = Tokenizer.from_str(tiny_tokenizer_json().decode()).encode("héllo").ids
    assert loaded.vocabulary.decode(token_ids) == "héllo"


async def test_short_text_for_the_loaded_model_is_not_asked_for():
    async with Stand() as stand:
        await stand.client.load_tokenizer()
        tokenizer = Tokenizer.from_str(tiny_tokenizer_json().decode())
        ids = await stand.client.tokenize_text("four", model=DESCRIPTION.name)
        assert list(ids) == tokenizer.encode("four").ids
        assert not stand.service.called.is_set()


@pytest.mark.parametrize(("text", "model"), [("x" * (SHORT_CHARS + 1), "tiny"), ("x", "")])
async def test_other_text_is_asked_for(text: str, model: str):
    async with Stand() as stand:
        await stand.client.load_tokenizer()
        assert await stand.client.tokenize_text(text, model=model) == (len(text),)


async def test_a_damaged_artefact_is_a_lost_dependency():
    async with Stand(patience_s=0.2) as stand:
        stand.service.artefact.pop()
        with pytest.raises(DependencyLost):
            await stand.client.load_tokenizer()


@pytest.mark.parametrize(
    "fault", [InvalidRequest("bad", field="messages"), NotFound("no"), Overloaded("full")]
)
async def test_what_the_service_says_is_passed_on_at_once(fault):
    async with Stand() as stand:
        stand.service.faults = [fault]
        with pytest.raises(type(fault), match=fault.message) as caught:
            await stand.client.tokenize_text("x")
        assert getattr(caught.value, "field", None) == getattr(fault, "field", None)
        assert not stand.service.faults


async def test_a_lone_surrogate_does_not_leave_the_gateway():
    async with Stand() as stand:
        with pytest.raises(InvalidRequest, match="lone surrogate"):
            await stand.client.tokenize_text("\ud800")
        assert not stand.service.called.is_set()


async def test_a_call_lost_half_way_is_made_again_when_the_service_is_back():
    async with Stand() as stand:
        stand.service.faults = [DependencyLost("lost")]
        assert await stand.client.tokenize_text("four") == (4,)


async def test_a_service_that_restarts_is_waited_for():
    async with Stand() as stand:
        assert await stand.client.tokenize_text("x") == (1,)
        await stand.server.stop(0)
        call = asyncio.create_task(stand.client.tokenize_text("four"))
        await asyncio.sleep(0)
        await stand.start()
        assert await call == (4,)


async def test_a_running_call_survives_the_death_of_its_server():
    async with Stand() as stand:
        call = asyncio.create_task(stand.client.tokenize_text("wait"))
        await stand.service.called.wait()
        await stand.server.stop(0)
        stand.service = FakeTokenizerService()
        await stand.start()
        await stand.service.called.wait()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call


async def test_the_requests_own_deadline_is_said_as_such():
    async with Stand() as stand:
        with pytest.raises(DeadlineExceeded, match=r"0\.05 s that were left"):
            await stand.client.tokenize_text("wait", timeout_s=0.05)


async def test_a_service_that_stays_away_is_a_lost_dependency_with_a_time():
    async with Stand(patience_s=0.1) as stand:
        await stand.server.stop(0)
        with pytest.raises(DependencyLost, match=r"did not answer for 0\.1 s") as caught:
            await stand.client.tokenize_text("x", timeout_s=60)
        assert caught.value.retry_after_s


async def test_loading_does_not_block_the_event_loop(monkeypatch):
    loaders: list[threading.Thread] = []
    real = Tokenizer.from_buffer

    class WatchedTokenizer:
        @staticmethod
        def from_buffer(data):
            loaders.append(threading.current_thread())
            return real(data)

    monkeypatch.setattr("gateway.tokenizer_client.Tokenizer", WatchedTokenizer)
    async with Stand() as stand:
        await stand.client.load_tokenizer()
    assert loaders
    assert threading.main_thread() not in loaders
