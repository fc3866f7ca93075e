from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gateway.text.token_bytes import TokenBytes


def _byte_level() -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocab = {char: idx for idx, char in enumerate(sorted(alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    return tokenizer


@pytest.mark.parametrize("text", ["plain words", "Zürich \u4f60\n\t", "\U0001f600", "\x00\x7f\xad"])
def test_bytes_of_tokens_join_to_the_text(text: str):
    tokenizer = _byte_level()
    token_bytes = TokenBytes(tokenizer)
    ids = tokenizer.encode(text).ids
    assert b"".join(token_bytes.of(token_id) for token_id in ids) == text.encode()


def test_special_and_unknown_ids():
    tokenizer = _byte_level()
    token_bytes = TokenBytes(tokenizer)
    assert token_bytes.of(tokenizer.token_to_id("<|end|>")) == b"<|end|>"
    assert token_bytes.of(10**6) == b""


def test_vocabularies_of_words_and_byte_tokens():
    vocab = {"\u2581hello": 0, "<0xE2>": 1, "s": 2}
    tokenizer = Tokenizer(models.WordLevel(vocab, "s"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback()]
    )
    token_bytes = TokenBytes(tokenizer)
    assert [token_bytes.of(i) for i in range(3)] == [b" hello", b"\xe2", b"s"]
