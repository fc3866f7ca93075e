import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gateway.text.detokenizer import (
    REPLACEMENT,
    WINDOW_TOKENS,
    ByteDetokenizer,
    Detokenizer,
    TokenVocabulary,
    open_detokenizer,
)

SPECIAL = "<|end|>"


def byte_level_tokenizer() -> Tokenizer:
    """Like GPT-2's: every byte is a token, and a few longer ones that cut through characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges: list[tuple[str, str]] = []
    for word in (" the", "ing", "日", "🎉"):
        spelled = splitter.pre_tokenize_str(word)[0][0]
        # The last byte of a word stays apart, so that tokens end inside characters.
        merges += [(spelled[:end], spelled[end]) for end in range(1, len(spelled) - 1)]
    pieces = [*alphabet, *dict.fromkeys(left + right for left, right in merges)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(SPECIAL, special=True)])
    return tokenizer


def byte_fallback_tokenizer() -> Tokenizer:
    """Like Llama 2's: words with a space mark, and single bytes for the rest."""
    pieces = ["<unk>", "▁", "▁the", "a", "b", "▁a", "é"]
    pieces += [f"<0x{value:02X}>" for value in range(256)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(SPECIAL, special=True)])
    return tokenizer


BYTE_LEVEL = byte_level_tokenizer()
BYTE_FALLBACK = byte_fallback_tokenizer()
TEXTS = st.text(st.one_of(st.sampled_from("日本🎉é a the\n"), st.characters(codec="utf-8")))


def ids_of(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    # Beyond the vocabulary too: a padded embedding has rows that are no token.
    return st.lists(st.integers(0, tokenizer.get_vocab_size() + 3), max_size=120)


def split(token_ids: list[int], cuts: list[int]) -> list[list[int]]:
    """Cuts a list into pieces whose lengths repeat `cuts`; some may be empty."""
    pieces, rest, turn = [], token_ids, 0
    while rest:
        length = cuts[turn % len(cuts)]
        pieces.append(rest[:length])
        rest, turn = rest[length:], turn + 1
    return pieces


def stream(tokenizer: Tokenizer, pieces: list[list[int]]) -> list[str]:
    detokenizer = Detokenizer(TokenVocabulary(tokenizer))
    return [*(detokenizer.feed(piece) for piece in pieces), detokenizer.flush()]


CUTS = st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any)


@given(ids_of(BYTE_LEVEL), CUTS)
def test_any_split_of_any_ids_joins_to_the_whole_decode(token_ids, cuts):
    joined = "".join(stream(BYTE_LEVEL, split(token_ids, cuts)))
    assert joined == BYTE_LEVEL.decode(token_ids, skip_special_tokens=True)


@given(ids_of(BYTE_FALLBACK).filter(lambda ids: len(ids) < 60), CUTS)
def test_byte_fallback_joins_to_the_whole_decode_too(token_ids, cuts):
    joined = "".join(stream(BYTE_FALLBACK, split(token_ids, cuts)))
    assert joined == BYTE_FALLBACK.decode(token_ids, skip_special_tokens=True)


@given(TEXTS, CUTS)
def test_no_piece_holds_half_a_character(text, cuts):
    pieces = stream(BYTE_LEVEL, split(BYTE_LEVEL.encode(text).ids, cuts))
    assert "".join(pieces) == text
    assert all(REPLACEMENT not in piece for piece in pieces[:-1]) or REPLACEMENT in text


def test_a_whole_character_comes_at_once():
    detokenizer = Detokenizer(TokenVocabulary(BYTE_LEVEL))
    assert detokenizer.feed(BYTE_LEVEL.encode("日").ids) == "日"


def test_an_unfinished_character_comes_at_the_end():
    detokenizer = Detokenizer(TokenVocabulary(BYTE_LEVEL))
    assert detokenizer.feed(BYTE_LEVEL.encode("a日").ids[:-1]) == "a"
    assert detokenizer.flush() == REPLACEMENT
    assert detokenizer.flush() == ""


def test_special_tokens_do_not_show_and_do_not_eat_the_next_space():
    detokenizer = Detokenizer(TokenVocabulary(BYTE_FALLBACK))
    end = BYTE_FALLBACK.token_to_id(SPECIAL)
    the = BYTE_FALLBACK.token_to_id("▁the")
    pieces = [detokenizer.feed([token_id]) for token_id in [the, *[end] * 50, the]]
    assert "".join(pieces) == "the the"


def test_a_prompt_before_it_keeps_the_first_space():
    the = BYTE_FALLBACK.token_to_id("▁the")
    detokenizer = Detokenizer(TokenVocabulary(BYTE_FALLBACK), [the])
    assert detokenizer.feed([the]) == " the"


def test_a_prompt_that_ends_inside_a_character_is_not_repeated():
    prompt = BYTE_LEVEL.encode("much before it 日").ids[:-1]
    detokenizer = Detokenizer(TokenVocabulary(BYTE_LEVEL), prompt)
    assert detokenizer.feed(BYTE_LEVEL.encode("a").ids) == "a"


@pytest.mark.parametrize("num_emoji", [3, 40, 400])
def test_a_long_run_of_byte_tokens_is_shown_whole_and_not_held_for_ever(num_emoji):
    the = BYTE_FALLBACK.token_to_id("▁the")
    emoji = [BYTE_FALLBACK.token_to_id(f"<0x{byte:02X}>") for byte in "🎉".encode()]
    token_ids = [the, *emoji * num_emoji, the]
    pieces = stream(BYTE_FALLBACK, [[token_id] for token_id in token_ids])
    assert "".join(pieces) == "the" + "🎉" * num_emoji + " the"
    assert max(map(len, pieces)) <= 40


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK])
def test_endless_bad_bytes_do_not_make_the_window_grow(tokenizer):
    decoded_lengths = []

    class CountingVocabulary(TokenVocabulary):
        def decode(self, token_ids):
            decoded_lengths.append(len(token_ids))
            return super().decode(token_ids)

    detokenizer = Detokenizer(CountingVocabulary(tokenizer))
    bad = tokenizer.token_to_id("<0xFF>") or BYTE_LEVEL.encode("\u00ff").ids[0]
    for _ in range(40 * WINDOW_TOKENS):
        detokenizer.feed([bad])
    assert max(decoded_lengths) < 8 * WINDOW_TOKENS


@given(ids_of(BYTE_LEVEL), CUTS)
def test_looked_up_bytes_are_the_decoders_own_text(token_ids: list[int], cuts: list[int]):
    vocabulary = TokenVocabulary(BYTE_LEVEL)
    detokenizer = open_detokenizer(vocabulary)
    assert isinstance(detokenizer, ByteDetokenizer)
    pieces = [detokenizer.feed(piece) for piece in split(token_ids, cuts)]
    assert "".join([*pieces, detokenizer.flush()]) == vocabulary.decode(token_ids)


@given(TEXTS, CUTS)
def test_looked_up_bytes_never_show_half_a_character(text: str, cuts: list[int]):
    detokenizer = open_detokenizer(TokenVocabulary(BYTE_LEVEL))
    token_ids = BYTE_LEVEL.encode(text).ids
    for piece in split(token_ids, cuts):
        assert REPLACEMENT not in detokenizer.feed(piece) or REPLACEMENT in text


def test_a_vocabulary_that_needs_context_is_decoded_in_windows():
    assert isinstance(open_detokenizer(TokenVocabulary(BYTE_FALLBACK)), Detokenizer)


@given(ids_of(byte_level_tokenizer()))
def test_known_texts_are_what_decoding_gives(token_ids: list[int]):
    vocabulary = TokenVocabulary(byte_level_tokenizer())
    detokenizer = open_detokenizer(vocabulary)
    pieces: list[str] = []
    for token_id in token_ids:
        found = detokenizer.known(token_id)
        if found is None:
            pieces.append(detokenizer.feed([token_id]))
        else:
            assert json.loads(found.json) == found.text
            pieces.append(found.text)
    assert "".join(pieces) + detokenizer.flush() == vocabulary.decode(token_ids)
