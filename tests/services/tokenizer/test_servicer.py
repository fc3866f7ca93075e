import pytest
from tokenizers import Tokenizer
from tokenmill.v1.tokenizer_pb2_grpc import (
    TokenizerServiceStub,
    add_TokenizerServiceServicer_to_server,
)

from services.core.errors import InvalidRequest, NotFound
from services.core.request import ChatMessage
from services.runtime.rpc_client import open_channel, peer_errors
from services.runtime.rpc_server import RpcServer
from services.tokenizer import servicer
from services.tokenizer.model_files import read_model_files
from services.tokenizer.servicer import TokenizerServicer
from services.tokenizer.text_tokenizer import TextTokenizer
from services.tokenizer.thread_pool import BoundedThreadPool
from services.wire.tokenizer import (
    ArtefactAssembler,
    TokenizeQuery,
    TokenizerArtefact,
    get_tokenizer_request_to_pb,
    tokenize_request_to_pb,
    tokenize_response_from_pb,
)


@pytest.fixture
async def stub(tiny_model_dir):
    files = read_model_files(tiny_model_dir)
    pool = BoundedThreadPool(num_threads=1, max_pending=8)
    server = RpcServer()
    server.add(
        add_TokenizerServiceServicer_to_server,
        TokenizerServicer(
            TokenizerArtefact(files.describe("tiny", None), files.tokenizer_json),
            TextTokenizer(files, max_text_bytes=100, max_messages=8),
            pool,
        ),
        "tokenmill.v1.TokenizerService",
    )
    port = await server.start("127.0.0.1", 0)
    channel = open_channel(f"127.0.0.1:{port}")
    yield TokenizerServiceStub(channel)
    await channel.close()
    await server.stop(0)
    pool.close()


async def tokenize(stub, content, model=""):
    with peer_errors("tokenizer"):
        query = tokenize_request_to_pb(TokenizeQuery(model, content))
        return tokenize_response_from_pb(await stub.Tokenize(query, timeout=10))


async def test_text_becomes_ids(stub):
    assert len(await tokenize(stub, "hello", model="tiny")) == 6


async def test_long_text_goes_to_a_thread_and_becomes_the_same_ids(stub, monkeypatch):
    messages = (ChatMessage("user", "hi"),)
    short = await tokenize(stub, "hello"), await tokenize(stub, messages)
    monkeypatch.setattr(servicer, "SHORT_CHARS", 0)
    assert (await tokenize(stub, "hello"), await tokenize(stub, messages)) == short


async def test_a_conversation_becomes_ids(stub):
    assert len(await tokenize(stub, (ChatMessage("user", "hi"),))) == 1 + len("<user>hi<assistant>")


async def test_a_bad_role_is_an_invalid_argument_by_field(stub):
    with pytest.raises(InvalidRequest, match="role") as caught:
        await tokenize(stub, (ChatMessage("robot", "hi"),))
    assert caught.value.field == "messages"


async def test_text_that_is_too_long_keeps_its_reason(stub):
    with pytest.raises(InvalidRequest, match="limit is 100") as caught:
        await tokenize(stub, "x" * 101)
    assert caught.value.reason == "TEXT_TOO_LONG"


async def test_another_model_is_not_found(stub):
    with pytest.raises(NotFound, match="'other' is not served here") as caught:
        await tokenize(stub, "x", model="other")
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_the_artefact_is_the_models_own_tokenizer(stub, tiny_model_dir):
    assembler = ArtefactAssembler()
    async for message in stub.GetTokenizer(get_tokenizer_request_to_pb(""), timeout=10):
        assembler.feed(message)
    artefact = assembler.finish()
    assert artefact.tokenizer_json == (tiny_model_dir / "tokenizer.json").read_bytes()
    assert artefact.description.eos_token_ids == (257, 258, 259)
    assert Tokenizer.from_buffer(artefact.tokenizer_json).decode([40]) == "I"
