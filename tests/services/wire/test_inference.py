from services.core.request import ChatMessage, FinishReason, RequestClass, Usage
from services.core.sampling import SamplingParams
from services.wire.inference import (
    AnswerPart,
    ChatCall,
    GenerateCall,
    ListedModel,
    answer_part_from_pb,
    chat_request_from_pb,
    chat_request_to_pb,
    chat_response_to_pb,
    generate_request_from_pb,
    generate_request_to_pb,
    generate_response_to_pb,
    list_models_response_from_pb,
    list_models_response_to_pb,
)

SAMPLING = SamplingParams(max_tokens=5, temperature=0.0, stop=("x",), seed=-1)


def test_generate_call_comes_back():
    call = GenerateCall("text", (), "m", SAMPLING, True, RequestClass.BATCH)
    assert generate_request_from_pb(generate_request_to_pb(call)) == call


def test_chat_call_comes_back():
    messages = (ChatMessage("user", "hü"), ChatMessage("assistant", ""))
    call = ChatCall(messages, "m", SAMPLING, True, RequestClass.STANDARD, "s")
    assert chat_request_from_pb(chat_request_to_pb(call)) == call


def test_parts_come_back_with_and_without_an_end():
    middle = AnswerPart("r", "text", (1, 2))
    last = AnswerPart("r", "", (), FinishReason.STOP, Usage(1, 2, 3, is_result_cached=True), "s")
    assert answer_part_from_pb(generate_response_to_pb(middle)) == middle
    assert answer_part_from_pb(chat_response_to_pb(last)) == last


def test_models_come_back():
    models = [ListedModel("m", 10, 20)]
    assert list_models_response_from_pb(list_models_response_to_pb(models)) == models
