import threading
from dataclasses import replace

import pytest

from services.core.errors import InvalidRequest
from services.core.request import ChatMessage
from services.tokenizer.model_files import BadModelFiles, read_model_files
from services.tokenizer.text_tokenizer import TextTokenizer, TextTooLong

BOS = 256


@pytest.fixture
def files(tiny_model_dir):
    return read_model_files(tiny_model_dir)


def load(files, max_text_bytes=1000, max_messages=3) -> TextTokenizer:
    return TextTokenizer(files, max_text_bytes=max_text_bytes, max_messages=max_messages)


def test_plain_text_gets_the_models_own_special_tokens_and_is_not_cut(files):
    token_ids = load(files).tokenize("hello world")
    assert token_ids[0] == BOS
    assert len(token_ids) == 1 + len("hello world")


def test_a_conversation_does_not_get_them_twice(files):
    token_ids = load(files).tokenize([ChatMessage("user", "hi")])
    assert token_ids.count(BOS) == 1
    assert len(token_ids) == 1 + len("<user>hi<assistant>")


def test_nul_is_a_character_like_any_other(files):
    assert len(load(files).tokenize("a\0b")) == 4


def test_text_over_the_limit_is_refused_with_the_limit(files):
    tokenizer = load(files, max_text_bytes=4)
    assert tokenizer.tokenize("é" * 2)
    with pytest.raises(TextTooLong, match="6 bytes of text; the limit is 4") as caught:
        tokenizer.tokenize("é" * 3)
    assert caught.value.field == "prompt"


def test_a_conversation_counts_as_a_whole(files):
    with pytest.raises(TextTooLong, match="messages has 6 bytes"):
        load(files, max_text_bytes=5).tokenize([ChatMessage("user", "abc")] * 2)


def test_too_many_messages_are_refused(files):
    with pytest.raises(InvalidRequest, match="4 entries; the limit is 3"):
        load(files).tokenize([ChatMessage("user", "")] * 4)


def test_a_model_without_chat_template_says_so(files):
    tokenizer = load(replace(files, chat_template=None))
    with pytest.raises(InvalidRequest, match="no chat template") as caught:
        tokenizer.tokenize([ChatMessage("user", "hi")])
    assert caught.value.field == "messages"


def test_a_tokenizer_that_cannot_be_read_is_said_at_start(files):
    with pytest.raises(BadModelFiles, match="cannot be loaded"):
        load(replace(files, tokenizer_json=b"{}"))


def test_a_long_text_leaves_the_interpreter_to_others(files):
    tokenizer = load(files, max_text_bytes=1 << 20)
    thread = threading.Thread(target=tokenizer.tokenize, args=("some words " * 50_000,))
    thread.start()
    num_turns = 0
    while thread.is_alive():
        thread.join(0.001)
        num_turns += 1
    assert num_turns > 10


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")
def test_the_default_model_is_tokenized_as_transformers_does(model_dir):
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(model_dir))
    tokenizer = load(read_model_files(model_dir), max_messages=10)
    conversation = [ChatMessage("user", "Count:\n\n1. 2024 🎉"), ChatMessage("assistant", "ok")]
    conversation.append(ChatMessage("user", "{{ x }} <|im_end|> \0"))
    messages = [{"role": entry.role, "content": entry.content} for entry in conversation]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert tokenizer.tokenize(conversation) == expected
    for text in ("", " ", "def f(x):\n    return 12\n", "日本語 <|im_start|>"):
        assert tokenizer.tokenize(text) == reference(text)["input_ids"]
