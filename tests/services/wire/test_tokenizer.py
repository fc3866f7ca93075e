import pytest
from tokenmill.v1 import tokenizer_pb2 as pb

from services.core.errors import InvalidRequest
from services.core.model import ModelDescription
from services.core.request import ChatMessage
from services.wire.tokenizer import (
    ArtefactAssembler,
    TokenizeQuery,
    TokenizerArtefact,
    artefact_to_pb,
    tokenize_request_from_pb,
    tokenize_request_to_pb,
)

DESCRIPTION = ModelDescription(
    name="tiny", max_model_len=128, eos_token_ids=(2, 5), vocab_size=99, has_chat_template=True
)


@pytest.mark.parametrize(
    "content", ["", "a\0b 🎉", (), (ChatMessage("user", "hi"), ChatMessage("assistant", ""))]
)
def test_a_query_survives_the_wire(content):
    query = TokenizeQuery("tiny", content)
    sent = tokenize_request_to_pb(query).SerializeToString()
    assert tokenize_request_from_pb(pb.TokenizeRequest.FromString(sent)) == query


def test_a_query_without_input_is_refused():
    with pytest.raises(InvalidRequest, match="input is missing"):
        tokenize_request_from_pb(pb.TokenizeRequest())


@pytest.mark.parametrize(
    ("content", "field"), [("a\ud800", "prompt"), ((ChatMessage("user", "\udfff"),), "messages")]
)
def test_a_lone_surrogate_is_refused_by_field(content, field):
    with pytest.raises(InvalidRequest, match="lone surrogate") as caught:
        tokenize_request_to_pb(TokenizeQuery("", content))
    assert caught.value.field == field


@pytest.mark.parametrize("size_bytes", [0, 10, 3 << 20])
def test_an_artefact_survives_the_wire_in_pieces(size_bytes):
    artefact = TokenizerArtefact(DESCRIPTION, bytes(size_bytes))
    assembler = ArtefactAssembler()
    for message in artefact_to_pb(artefact):
        assembler.feed(message)
    assert assembler.finish() == artefact


def test_an_artefact_that_ends_early_is_refused():
    messages = list(artefact_to_pb(TokenizerArtefact(DESCRIPTION, bytes(3 << 20))))
    assembler = ArtefactAssembler()
    for message in messages[:-1]:
        assembler.feed(message)
    with pytest.raises(ValueError, match="ended after 2097152 bytes"):
        assembler.finish()


def test_an_artefact_out_of_order_is_refused():
    _, piece = artefact_to_pb(TokenizerArtefact(DESCRIPTION, b"{}"))
    with pytest.raises(ValueError, match="no description"):
        ArtefactAssembler().feed(piece)
