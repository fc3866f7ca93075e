from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gateway.text.detokenizer import TokenVocabulary
from gateway.text.text_stream import TextStream


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("c", "d"), ("ab", "cd")]
    pieces = [*alphabet, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZER = byte_tokenizer()
VOCABULARY = TokenVocabulary(TOKENIZER)


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text).ids


def token(text: str) -> int:
    (token_id,) = ids_of(text)
    return token_id


def text_before_stop(text: str, stop: list[str]) -> tuple[str, bool]:
    """Plain reference: reads characters one by one until some stop string is complete."""
    for end in range(1, len(text) + 1):
        complete = [len(word) for word in stop if text[:end].endswith(word)]
        if complete:
            return text[: end - max(complete)], True
    return text, False


def run(stream: TextStream, pieces: list[list[int]]) -> tuple[str, bool]:
    deltas = [*map(stream.feed, pieces), stream.finish()]
    return "".join(delta.text for delta in deltas), deltas[-1].stopped


FEW = "ab cd🎉日"


@given(
    st.text(FEW, max_size=40),
    st.lists(st.text(FEW, min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_any_split_stops_where_a_plain_search_does(text, stop, length):
    token_ids = ids_of(text)
    pieces = [token_ids[at : at + length] for at in range(0, len(token_ids), length)]
    assert run(TextStream(VOCABULARY, stop=stop), pieces) == text_before_stop(text, stop)


def test_a_stop_string_across_tokens_is_never_seen():
    stream = TextStream(VOCABULARY, stop=["END"])
    seen = [stream.feed([token(char)]).text for char in "aE"]
    assert seen == ["a", ""]
    assert stream.feed([token("N")]).text == ""
    last = stream.feed([token("D")])
    assert (last.text, last.stopped) == ("", True)


def test_a_false_beginning_comes_out_at_once():
    stream = TextStream(VOCABULARY, stop=["END"])
    stream.feed(ids_of("EN"))
    assert stream.feed(ids_of("x")).text == "ENx"


def test_text_that_begins_no_stop_string_is_not_held():
    stream = TextStream(VOCABULARY, stop=["a long stop string"])
    assert stream.feed(ids_of("xyz")).text == "xyz"


def test_a_held_beginning_comes_out_at_the_end():
    stream = TextStream(VOCABULARY, stop=["END"])
    assert stream.feed(ids_of("xEN")).text == "x"
    assert stream.finish().text == "EN"


def test_the_stop_string_that_is_complete_first_wins_within_one_token():
    stream = TextStream(VOCABULARY, stop=["abcd", "bc"])
    delta = stream.feed([token("abcd")])
    assert (delta.text, delta.stopped) == ("a", True)


def test_tokens_after_the_stop_string_do_not_count():
    stream = TextStream(VOCABULARY, stop=["x"])
    delta = stream.feed(ids_of("1"))
    assert delta.num_tokens == 1
    delta = stream.feed(ids_of("2x345"))
    assert (delta.text, delta.stopped, delta.num_tokens) == ("2", True, 3)


def test_nothing_comes_after_a_stop_string():
    stream = TextStream(VOCABULARY, stop=["x"])
    stream.feed(ids_of("x"))
    assert stream.feed(ids_of("y")).text == ""
    assert stream.finish().text == ""
    assert stream.finish().num_tokens == 1


def test_all_tokens_count_without_a_stop_string():
    stream = TextStream(VOCABULARY)
    stream.feed(ids_of("12"))
    assert stream.feed(ids_of("3")).num_tokens == 3


def test_a_stop_string_may_be_complete_only_at_the_end():
    stream = TextStream(VOCABULARY, stop=["\ufffd"])
    stream.feed(ids_of("a日")[:-1])
    last = stream.finish()
    assert (last.text, last.stopped) == ("", True)
