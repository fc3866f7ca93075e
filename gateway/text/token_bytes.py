"""The bytes that a single token stands for, whatever way its vocabulary writes them."""

from __future__ import annotations

import json
import re

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_WORD_START = "\u2581"
"""What vocabularies of the SentencePiece family write for a space."""


class TokenBytes:
    """Bytes of the tokens of one vocabulary.

    Attributes:
        are_context_free: a text's bytes are those of its tokens, one after the other.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added_ids = frozenset(tokenizer.get_added_tokens_decoder())
        kinds = _decoder_kinds(tokenizer)
        self._byte_of = _byte_of_char() if "ByteLevel" in kinds else {}
        self.are_context_free = kinds == ["ByteLevel"]

    def of(self, token_id: int) -> bytes:
        """Its bytes; none if there is no such token."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._added_ids:
            return token.encode()
        return self._plain(token)

    def in_text(self, token_id: int) -> bytes:
        """Its bytes as a decoder joins them, which spells added tokens like all others."""
        token = self._tokenizer.id_to_token(token_id)
        return b"" if token is None else self._plain(token)

    def _plain(self, token: str) -> bytes:
        byte = _BYTE_TOKEN.fullmatch(token)
        if byte:
            return bytes([int(byte[1], 16)])
        if self._byte_of and all(char in self._byte_of for char in token):
            return bytes(self._byte_of[char] for char in token)
        return token.replace(_WORD_START, " ").encode()


def _decoder_kinds(tokenizer: Tokenizer) -> list[str]:
    if tokenizer.decoder is None:
        return []
    state = json.loads(tokenizer.decoder.__getstate__())
    return [str(part.get("type")) for part in state.get("decoders", [state])]


def _byte_of_char() -> dict[str, int]:
    """How byte-level vocabularies spell bytes: printable ones as they are, the rest from U+0100 on.

    Source: GPT-2's encoder, `bytes_to_unicode`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    spelled.update({chr(0x100 + idx): byte for idx, byte in enumerate(rest)})
    return spelled
